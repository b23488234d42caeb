"""What a run says: one sentence, a table with the ratios first, a figure.

Lesson: 14_the_full_7b.

Conventions
    Bars are medians, whiskers the least and the greatest block, the black mark the limit of the
    same run. Colour tells this project from the others; the name beside each bar tells the rest.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mistral_edu.bench import ours
from mistral_edu.bench.results import DECODE, PER_TOKEN
from mistral_edu.bench.roster import BASELINE
from mistral_edu.experiments.record import Measurement, Row
from mistral_edu.viz.style import BLUE, INK, PAPER, QUIET, SKY, VERMILLION, card, panel, sheet

OWN = (ours.ENGINE, ours.PLAIN)
CASE = ("dtype", "quantity", "batch", "tokens", "state")
LOOKS = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ("-", "v"), ("--", "x"))
BAR, CURVE = 0.17, 3.75  # inches
QUIET_ENOUGH = 0.08  # share of the machine that others may take before the finding says so


def grouped(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that stand beside each other: the same case, one for each peer."""
    return [list(group) for _, group in groupby(rows, lambda row: [row[key] for key in CASE])]


def finding(rows: Sequence[Row]) -> str:
    """One sentence: decoding at the full window, our best beside the baseline and the limit.

    >>> finding([])
    'Only measured: nothing'
    """
    dtypes = dict.fromkeys(row["dtype"] for row in rows)
    groups = [group for dtype in dtypes for group in _decoding(rows, dtype)]
    if not groups:
        measured = ", ".join(dict.fromkeys(row["quantity"] for row in rows))
        return f"Only measured: {measured or 'nothing'}"
    taken = max((row["others"] for group in groups for row in group), default=0.0)
    noise = (
        f" (noise: others took up to {taken:.0%} of the machine)" if taken > QUIET_ENOUGH else ""
    )
    said = "; ".join(part for part in map(_compared, groups) if part)
    return f"The engine's decoding at the full window, beside {BASELINE}: {said}{noise}"


def _decoding(rows: Iterable[Row], dtype: str) -> list[list[Row]]:
    kept = [row for row in rows if row["quantity"] == DECODE.name and row["state"] == "full"]
    return grouped(row for row in kept if row["dtype"] == dtype)


def _compared(group: Sequence[Row]) -> str:
    by_peer = {row["peer"]: row for row in group}
    if ours.ENGINE not in by_peer:
        return ""
    row = by_peer[ours.ENGINE]
    times = f"{row['ratio']:.2f} times " if BASELINE in by_peer else ""
    case = f"{row['dtype']}, batch {row['batch']}, {row['of_limit']:.0%} of the limit"
    return f"{times}({case})"


def table(measurement: Measurement) -> str:
    """The whole run as text: who took part, then every case with its ratios first."""
    settings = measurement.settings
    lines = ["Who was measured"]
    for peer in settings["peers"]:
        what = "measured" if peer["measured"] else f"absent: {peer['reason']}"
        version = f" {peer['version']}" if peer["version"] else ""
        lines.append(f"  {peer['dtype']:<9} {peer['peer']}{version}: {what}")
    lines += [
        f"  {one['dtype']:<9} {one['peer']} failed at {one['case']}: {one['reason']}"
        for one in settings["failures"]
    ]
    for group in grouped(measurement.rows):
        lines += ["", _heading(group[0]), *(_line(row) for row in group)]
    return "\n".join(lines)


def _heading(row: Row) -> str:
    state = f", {row['state']}" if row["state"] else ""
    unit, case = row["unit"], f"{row['dtype']}, batch {row['batch']}, {row['tokens']} tokens"
    return f"{row['quantity']} ({unit}): {case}{state}"


def _line(row: Row) -> str:
    against = "     –" if row["ratio"] is None else f"{row['ratio']:6.2f}"
    share = "" if row["of_limit"] is None else f"  {row['of_limit']:4.0%} of the limit"
    spread = f"{row['median']:>12,} ({row['low']:,} to {row['high']:,})"
    note = f"  [{row['note']}]" if row["note"] else ""
    return f"  {against} ×  {row['peer']:<22}{spread}{share}{note}"


def draw(measurement: Measurement, path: Path) -> None:
    """Draw decoding at the full window as bars, and one token against the length, as a PNG.

    What was not measured is left out.
    """
    rows = measurement.rows
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    groups = [group for dtype in dtypes for group in _decoding(rows, dtype)]
    curve = [row for row in rows if row["quantity"] == PER_TOKEN.name and row["dtype"] == dtypes[0]]
    bars = sum(len(group) + 2 for group in groups) * BAR
    below = CURVE if curve else 0.65  # inches
    with sheet():
        figure = card(below + bars + 1.25, measurement.finding)
        if groups:
            _draw_bars(figure, groups, bottom=below, height=bars)
        if curve:
            _draw_curve(figure, curve, bottom=0.65)
        figure.savefig(path, format="png")


def _draw_bars(
    figure: Figure, groups: Sequence[Sequence[Row]], bottom: float, height: float
) -> None:
    axes = panel(figure, 1.9, bottom, 5.2, height)
    place, ticks = 0.0, []
    for group in groups:
        first = group[0]
        axes.text(0, place, f"{first['dtype']}, batch {first['batch']}", size=9, va="center")
        place += 1
        for row in group:
            own = row["peer"] in OWN
            reach = [[row["median"] - row["low"]], [row["high"] - row["median"]]]
            axes.barh(place, row["median"], 0.8, color=BLUE if own else SKY, xerr=reach, ecolor=INK)
            axes.plot([row["limit"]] * 2, [place - 0.45, place + 0.45], color=INK, lw=2)
            said = f"{row['ratio']:.2f}×, {row['of_limit']:.0%}"
            under = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}
            look: dict[str, Any] = {"size": 8.5, "va": "center", "color": QUIET, "bbox": under}
            axes.annotate(said, (row["high"], place), (6, 0), textcoords="offset points", **look)
            ticks.append((place, row["peer"]))
            place += 1
        place += 1
    axes.set_yticks([place for place, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(place, -1)
    axes.set_xlabel(f"tokens a second; beside it: times {BASELINE}, share of the limit (mark)")


def _draw_curve(figure: Figure, rows: Sequence[Row], bottom: float) -> None:
    axes = panel(figure, 0.8, bottom, 6.3, 2.2)
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    for number, peer in enumerate(peers):
        mine = [row for row in rows if row["peer"] == peer]
        dash, mark = LOOKS[number % len(LOOKS)]
        colour = (BLUE if peer in OWN else VERMILLION) if number % 2 == 0 else INK
        look: dict[str, Any] = {"marker": mark, "ms": 4, "color": colour, "label": peer}
        axes.plot([r["tokens"] for r in mine], [r["median"] for r in mine], dash, **look)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set(xlabel="tokens before (log scale)", ylabel=f"ms a token, {rows[0]['dtype']}, batch 1")
    axes.legend(frameon=False, ncols=3, fontsize=8.5)
