"""Limit sweep: how much of what reading allows was reached, case by case and program by program.

    share = measured tokens a second / predicted tokens a second

Lesson: 14_the_full_7b, which brings the numbers; nothing here measures.

Conventions
    100 % is the limit by the reading rate that was measured in the same run. It can be passed: the
    measuring reads with one program, and another may read better, or find something in a cache.
    Programs differ by the shape of their mark, not by colour alone, and each has its own height in
    a row, so that none hides another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure

from mistral_edu.viz.frame import Frame, aligned, listed
from mistral_edu.viz.render import draw
from mistral_edu.viz.roofline import digits
from mistral_edu.viz.style import BLUE, HATCH, INK, LINE, PAPER, VERMILLION, card, panel

_LOOKS = (("o", BLUE), ("s", VERMILLION), ("^", INK), ("D", PAPER))
_ROW = 0.62  # inches
_LANE = 0.2  # rows between two programs of a row


@dataclass(frozen=True)
class LimitSweepFrame(Frame):
    """Measured speeds beside their limits.

    Args:
        limits: tokens a second that reading allows, by case.
        measured: tokens a second that each program reached, by case and program.
    """

    topic: ClassVar[str] = "limit-sweep"
    limits: dict[str, float]
    measured: dict[str, dict[str, float]]

    @property
    def programs(self) -> tuple[str, ...]:
        """All programs, in the order in which they are first met."""
        return tuple(dict.fromkeys(name for found in self.measured.values() for name in found))

    def shares(self, program: str) -> dict[str, float]:
        """What a program reached of the limit, by case."""
        return {
            case: found[program] / self.limits[case]
            for case, found in self.measured.items()
            if program in found
        }

    def span(self, program: str) -> str:
        """The least and the greatest of a program's shares, in words."""
        shares = self.shares(program).values()
        low, high = f"{100 * min(shares):.0f}", f"{100 * max(shares):.0f}"
        return f"{low} %" if low == high else f"{low} to {high} %"

    @property
    def title(self) -> str:
        spans = listed(f"{program} {self.span(program)}" for program in self.programs)
        return f"Reached of the reading limit: {spans}"

    @property
    def summary(self) -> str:
        rows = "; ".join(
            f"{case}, limit {digits(self.limits[case])} tokens a second, "
            + listed(f"{name} {100 * speed / self.limits[case]:.0f} %" for name, speed in f.items())
            for case, f in self.measured.items()
        )
        return f"Marks of the share of the reading limit that programs reached. {rows}."

    def to_text(self) -> str:
        rows = [["", "limit (tokens/s)", *self.programs]]
        for case, found in self.measured.items():
            cells = [
                f"{100 * found[name] / self.limits[case]:.0f} %" if name in found else "–"
                for name in self.programs
            ]
            rows.append([case, f"{digits(self.limits[case])}", *cells])
        return "\n".join([self.title, *aligned(rows)])


def limit_sweep_frame(
    limits: Mapping[str, float], measured: Mapping[str, Mapping[str, float]]
) -> LimitSweepFrame:
    """Put predictions and measurements into a frame.

    Args:
        limits: tokens a second that reading allows, by case.
        measured: tokens a second reached, by case and program; one to four programs.

    Raises:
        ValueError: for other cases than those of the limits, or too many programs.

    >>> frame = limit_sweep_frame({"batch 1": 20.0}, {"batch 1": {"ours": 18.0, "theirs": 10.0}})
    >>> frame.title
    'Reached of the reading limit: ours 90 % and theirs 50 %'
    """
    if list(limits) != list(measured):
        raise ValueError(f"limits are for {list(limits)}, measurements for {list(measured)}")
    frame = LimitSweepFrame(dict(limits), {case: dict(found) for case, found in measured.items()})
    if not 1 <= len(frame.programs) <= len(_LOOKS):
        raise ValueError(f"{len(frame.programs)} programs: give 1 to {len(_LOOKS)}")
    return frame


@draw.register
def _(frame: LimitSweepFrame) -> Figure:
    height = _ROW * len(frame.limits)
    figure = card(height + 1.8, frame.title)
    axes = panel(figure, 2.0, 0.95, 5.3, height)
    for number, (program, (mark, colour)) in enumerate(zip(frame.programs, _LOOKS, strict=False)):
        shares = frame.shares(program)
        lane = _LANE * (number - (len(frame.programs) - 1) / 2)
        places = [list(frame.limits).index(case) + lane for case in shares]
        percent = [100 * share for share in shares.values()]
        axes.plot(percent, places, mark, color=colour, mec=INK, ms=7, label=program, zorder=3)
    axes.axvline(100, color=INK, lw=2, zorder=1)
    axes.grid(axis="y", color=HATCH, lw=0.8, zorder=0)
    names = [f"{case}\nlimit {digits(limit)} tokens/s" for case, limit in frame.limits.items()]
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(
        0, max(125, 105 * max(s for p in frame.programs for s in frame.shares(p).values()))
    )
    axes.spines["left"].set_color(LINE)
    axes.set_xlabel("share of the reading limit (%); line: the limit")
    figure.legend(loc="lower left", ncols=4, frameon=False, fontsize=8.5)
    return figure
