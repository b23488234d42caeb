"""The roofline, the picture: two limits on a log-log plot, and the passes of the 7B under them.

Lesson: 14_the_full_7b. The data is in `roofline.py`.

Conventions
    Dots lie on the roof: they are limits, not measurements. The chosen batch is ringed and named, a
    line leads from it to its intensity, and the lines below the plot say it in words. A dot whose
    name would stand at the ring goes without.
    The axes' limits depend on the machine alone, so that precisions can be compared.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from mistral_edu.viz.explorer import Explorer, choice, doublings, number
from mistral_edu.viz.machines import H200, Machine, recorded_machine
from mistral_edu.viz.render import draw
from mistral_edu.viz.roofline import WIDEST_BATCH, RooflineFrame, prefixed, roofline_frame
from mistral_edu.viz.style import (
    BLUE,
    HATCH,
    INK,
    LINE,
    PAPER,
    PIXELS_PER_INCH,
    QUIET,
    VERMILLION,
    card,
    panel,
)
from mistral_edu.viz.workload import PRECISIONS, Work

SHORTEST, LONGEST = 128, 4096
LEAST, MOST = 0.1, 1e4  # operations a byte

_BELOW = ((8, -5), "left", "top")
_RINGED = ((12, -5), "left", "top")
_ABOVE = ((-8, 5), "right", "bottom")
_PLACES = (_BELOW, _ABOVE, _BELOW, _BELOW)
_RING = 14  # points across


@draw.register
def _(frame: RooflineFrame) -> Figure:
    figure = card(5.0, frame.title)
    axes = panel(figure, 0.85, 1.25, 6.4, 2.95)
    axes.set(xscale="log", yscale="log", xlim=(LEAST, MOST), ylim=_heights(frame.machine))
    _draw_roof(axes, frame)
    _draw_points(axes, frame)
    axes.minorticks_off()
    axes.set_xlabel("intensity (operations for each byte read)")
    axes.set_ylabel("speed (FLOP/s)")
    axes.set_title(frame.machine.name)
    figure.text(0.02, 0.03, "\n".join(frame.reading), size=8.5, linespacing=1.5)
    return figure


def _heights(machine: Machine) -> tuple[float, float]:
    return machine.read * LEAST, 6 * max(machine.multiply.values())


def _draw_roof(axes: Axes, frame: RooflineFrame) -> None:
    machine, ridge = frame.machine, frame.ridge
    flat = machine.rate(frame.precision)
    axes.plot([LEAST, ridge, MOST], [machine.read * LEAST, flat, flat], color=INK, lw=2)
    axes.plot([ridge, ridge], [_heights(machine)[0], flat], ":", color=LINE, lw=1)
    axes.fill_between([LEAST, ridge], [0, 0], [machine.read * LEAST, flat], color=HATCH, alpha=0.3)
    look: dict[str, Any] = {"size": 8.5, "color": INK, "va": "bottom"}
    words = f"multiplies {prefixed(flat, 'FLOP/s')}"
    axes.annotate(words, (MOST, flat), (-2, 4), textcoords="offset points", ha="right", **look)
    foot = (ridge, _heights(machine)[0])
    plate = {"fc": PAPER, "ec": "none", "pad": 1}  # lines may pass behind the word
    axes.annotate("ridge", foot, (4, 5), textcoords="offset points", bbox=plate, zorder=6, **look)
    words = f"reads {prefixed(machine.read, 'B/s')}:\nspeed = reading × intensity"
    where = (0.02, 0.62)
    axes.annotate(words, where, xycoords="axes fraction", **look)


def _draw_points(axes: Axes, frame: RooflineFrame) -> None:
    machine, precision = frame.machine, frame.precision
    names = []
    for work, place in zip(frame.others, _PLACES, strict=True):
        speed = machine.roof(precision, work.intensity)
        axes.plot(work.intensity, speed, "o", color=BLUE, ms=7, zorder=4)
        names.append(_name(axes, work, speed, place, color=QUIET))
    x = frame.chosen.intensity
    y = machine.roof(precision, x)
    axes.plot([x, x], [_heights(machine)[0], y], "--", color=VERMILLION, lw=1.5, zorder=3)
    axes.plot(x, y, "o", mfc="none", mec=VERMILLION, mew=2.5, ms=_RING, zorder=5)
    chosen = _name(axes, frame.chosen, y, _RINGED, color=INK, weight="bold")
    pixels = PIXELS_PER_INCH / 72
    ring = Bbox([axes.transData.transform((x, y))] * 2).padded((_RING / 2 + 3) * pixels)
    for name in names:
        box = name.get_window_extent().padded(3)
        if box.overlaps(ring) or box.overlaps(chosen.get_window_extent()):
            name.remove()


def _name(axes: Axes, work: Work, speed: float, place: tuple, **look: Any) -> Annotation:
    offset, ha, va = place
    name = work.name.removeprefix("decode, ").removesuffix(" tokens").replace(" of", "")
    look |= {"textcoords": "offset points", "size": 8.5, "ha": ha, "va": va}
    return axes.annotate(name, (work.intensity, speed), offset, **look)


def explore_roofline(
    machines: Mapping[str, Machine] | None = None,
    precision: str = "bfloat16",
    batch: int = 1,
    context: int = 4096,
) -> Explorer:
    """The roofline of the 7B under the hand.

    Args:
        machines: by name; by default the recorded one and an H200's data sheet. The first is
            shown first.
        precision, batch, context: as in `roofline_frame`; the context a power of two from 128.

    >>> explorer = explore_roofline({"H200": H200})
    >>> explorer.controls["precision"].value = "int8"
    >>> f"{explorer.frame.limit:.1f}", explorer.frame.bound
    ('616.6', 'memory')
    """
    machines = machines or {machine.name: machine for machine in (recorded_machine(), H200)}
    controls = {
        "machine": choice("machine", list(machines), next(iter(machines))),
        "precision": choice("precision", list(PRECISIONS), precision),
        "batch": number("batch (texts)", batch, 1, WIDEST_BATCH),
        "context": doublings("context (tokens)", context, SHORTEST, LONGEST),
    }
    return Explorer(lambda machine, **values: roofline_frame(machines[machine], **values), controls)
