"""The figure of `attention`: seconds, speed-up, and memory against the length of the text.

Lesson: 13_flash_attention.

Conventions
    Both axes of seconds and of memory are logarithmic: what grows with T² is twice as steep as
    what grows with T.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mistral_edu.experiments.record import Measurement, Row
from mistral_edu.viz.style import BLUE, INK, QUIET, VERMILLION, card, panel, sheet

NATIVE, EXACT = "eager", "float32"  # the second is what the first computes in, always
LOOKS = {
    "eager": ("-", "o", VERMILLION),
    "sdpa": ("--", "s", BLUE),
    "flex": (":", "^", QUIET),
    "flash": ("-.", "D", INK),
}
NAMES = {"eager": "native (eager)"}


def finding(rows: Sequence[Row], window: int | None) -> str:
    """What was gained at the longest text that native attention could take, in the first type.

    Native attention computes in float32 whatever the type, so only there is the race a fair one.

    >>> row = {"dtype": "float32", "what": "model", "length": 64, "backend": "sdpa",
    ...        "speed_up": 2.0, "extra_bytes": None}
    >>> alone = row | {"what": "attention", "extra_bytes": 10}
    >>> native = alone | {"backend": "eager", "speed_up": 1.0, "extra_bytes": 500}
    >>> finding([row, alone, native], window=8)
    'At 64 tokens a forward pass is 2.0 times as fast with sdpa as with native attention, and \
attention alone needs 1/50 of the memory (float32, window 8)'
    """
    first = [row for row in rows if row["dtype"] == rows[0]["dtype"]]
    compared = [row for row in first if row["speed_up"] and row["backend"] != NATIVE]
    if not compared:
        return "Native attention alone could run: there is nothing to compare it with"
    longest = max(row["length"] for row in compared)
    models = [r for r in compared if r["what"] == "model" and r["length"] == longest]
    best = max(models, key=lambda row: row["speed_up"])
    alone = {
        row["backend"]: row["extra_bytes"]
        for row in first
        if (row["what"], row["length"]) == ("attention", longest)
    }
    exact = "" if best["dtype"] == EXACT else f" in {EXACT}"
    less = ""
    if alone.get(NATIVE) and alone.get(best["backend"]):
        times = round(alone[NATIVE] / alone[best["backend"]])
        less = f", and attention alone needs 1/{times} of the memory" if times > 1 else ""
    return (
        f"At {longest:,} tokens a forward pass is {best['speed_up']:.1f} times as fast with "
        f"{best['backend']} as with native attention{exact}{less} ({best['dtype']}, "
        f"window {window})"
    )


def draw(measurement: Measurement, path: Path) -> None:
    """Draw the four panels into a file."""
    with sheet():
        picture(measurement.finding, measurement.rows).savefig(path, format="png")


def picture(title: str, rows: Sequence[Row]) -> Figure:
    """Four panels of the first type: a forward pass, the speed-up, and one layer's attention."""
    dtype = rows[0]["dtype"]
    mine = [row for row in rows if row["dtype"] == dtype]
    figure = card(6.6, title)
    forward = panel(figure, 0.8, 3.55, 2.9, 2.1)
    _lines(forward, [row for row in mine if row["what"] == "model"], "seconds")
    forward.set(title="one forward pass", ylabel=f"seconds ({dtype})", yscale="log")
    forward.legend(frameon=False, fontsize=8.5)
    gained = panel(figure, 4.5, 3.55, 2.9, 2.1)
    _speed_ups(gained, rows)
    memory = panel(figure, 0.8, 0.65, 2.9, 2.1)
    alone = [row for row in mine if row["what"] == "attention"]
    known = [row for row in alone if row["extra_bytes"]]
    _lines(memory, [{**row, "MiB": row["extra_bytes"] / 2**20} for row in known], "MiB")
    memory.set(
        title="memory of one layer's attention",
        ylabel=f"MiB beyond q, k, v ({dtype})",
        yscale="log",
    )
    seconds = panel(figure, 4.5, 0.65, 2.9, 2.1)
    _lines(seconds, alone, "seconds")
    seconds.set(title="time of one layer's attention", ylabel=f"seconds ({dtype})", yscale="log")
    return figure


def _lines(axes: Axes, rows: Sequence[Row], quantity: str) -> None:
    for backend in dict.fromkeys(row["backend"] for row in rows):
        own = [row for row in rows if row["backend"] == backend]
        dash, mark, colour = LOOKS[backend]
        values = [row[quantity] for row in own]
        label = NAMES.get(backend, backend)
        axes.plot(
            [r["length"] for r in own], values, dash, marker=mark, ms=4, color=colour, label=label
        )
    _lengths(axes, rows)


def _speed_ups(axes: Axes, rows: Sequence[Row]) -> None:
    kept = [row for row in rows if row["speed_up"] and row["backend"] != NATIVE]
    for number, dtype in enumerate(dict.fromkeys(row["dtype"] for row in kept)):
        for backend in dict.fromkeys(row["backend"] for row in kept):
            own = [
                row
                for row in kept
                if (row["dtype"], row["backend"], row["what"]) == (dtype, backend, "model")
            ]
            dash, mark, colour = LOOKS[backend]
            line = dash if number == 0 else ":"
            (drawn,) = axes.plot([r["length"] for r in own], [r["speed_up"] for r in own], line)
            drawn.set(marker=mark, markersize=4, color=colour if number == 0 else QUIET)
            against = "" if dtype == EXACT else f" (native: {EXACT})"
            drawn.set_label(f"{backend}, {dtype}{against}")
    axes.axhline(1, color=QUIET, lw=0.8)
    axes.set(title="speed-up of the forward pass", ylabel="times as fast as native", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8.5)
    _lengths(axes, kept)


def _lengths(axes: Axes, rows: Sequence[Row]) -> None:
    lengths = sorted({row["length"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [f"{n // 1024}K" if n >= 1024 else str(n) for n in lengths])
    axes.set_xlabel("text (tokens)")
