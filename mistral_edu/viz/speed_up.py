"""Speed-up diagram: native attention against the fused kinds, by length of the text.

Lesson: 13_flash_attention. `mistral_edu.experiments.attention` measures and draws; here its table
becomes a frame, so that the picture has words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from matplotlib.figure import Figure

from mistral_edu.viz.frame import Frame, aligned
from mistral_edu.viz.render import draw

Row = Mapping[str, Any]


@dataclass(frozen=True)
class SpeedUpFrame(Frame):
    """The table of one measurement.

    Args:
        finding: what came out, one sentence.
        rows: as `mistral_edu.experiments.attention` makes them.
    """

    topic: ClassVar[str] = "speed-up"
    finding: str
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return self.finding

    @property
    def summary(self) -> str:
        lines = []
        for row in self.rows:
            start = self._start(row)
            if row["length"] == self._last(row)["length"] and start is not row:
                what = "a forward pass" if row["what"] == "model" else "one layer's attention"
                lines.append(
                    f"{what} in {row['dtype']} by {row['backend']}, {start['seconds']:.2g} seconds "
                    f"at {start['length']:,} tokens and {row['seconds']:.2g} at {row['length']:,}"
                )
        return f"Four panels of time, speed-up and memory against length: {'; '.join(lines)}."

    def _line(self, row: Row) -> list[Row]:
        keys = ("what", "dtype", "backend")
        return [other for other in self.rows if all(other[key] == row[key] for key in keys)]

    def _start(self, row: Row) -> Row:
        return min(self._line(row), key=lambda other: other["length"])

    def _last(self, row: Row) -> Row:
        return max(self._line(row), key=lambda other: other["length"])

    def to_text(self) -> str:
        table = [["what", "type", "backend", "tokens", "seconds", "times native", "MiB"]]
        for row in self.rows:
            gained = "–" if row["speed_up"] is None else f"{row['speed_up']:.1f}"
            memory = "–" if not row["extra_bytes"] else f"{row['extra_bytes'] / 2**20:,.0f}"
            names = [row["what"], row["dtype"], row["backend"], f"{row['length']:,}"]
            table.append([*names, f"{row['seconds']:.4f}", gained, memory])
        return "\n".join([self.title, *aligned(table)])


def speed_up_frame(finding: str, rows: Sequence[Row]) -> SpeedUpFrame:
    """Put a measurement's table into a frame.

    Args:
        finding: what came out, one sentence.
        rows: as `mistral_edu.experiments.attention` makes them.

    Raises:
        ValueError: when there are no rows.

    >>> from mistral_edu.experiments.record import read
    >>> recorded = read("attention")
    >>> speed_up_frame(recorded["finding"], recorded["rows"]).title[:28]
    'At 4,096 tokens a forward pa'
    """
    if not rows:
        raise ValueError("a measurement without rows has nothing to show")
    return SpeedUpFrame(finding, tuple(rows))


@draw.register
def _(frame: SpeedUpFrame) -> Figure:
    # Imported late: the experiment's own module draws with this package's style.
    from mistral_edu.experiments.attention_figure import picture

    return picture(frame.finding, frame.rows)
