"""Does information hop from window to window, and how far? Recall accuracy against distance.

    layer 1 sees W − 1 tokens back, layer 2 what layer 1 wrote there, …: at most L · (W − 1) back

For every window, depth, number of facts and seed a small model (`recall_model.py`)
learns the task of `recall_task.py` from nothing.
Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Sliding Window Attention".
Lesson: 15_long_context.

Conventions
    A stack recalls as far as the mean over seeds is at least 90 % there and everywhere nearer.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mistral_edu.experiments.recall_model import Case, Settings, measure_one
from mistral_edu.experiments.recall_task import FACTS
from mistral_edu.experiments.record import Clock, Measurement, Row
from mistral_edu.viz.style import BLUE, INK, LINE, QUIET, VERMILLION, card, panel, sheet

ENOUGH = 0.9
LOOKS = (("-", "o", BLUE), ("--", "s", VERMILLION), (":", "^", INK))


def measure(settings: Settings | None = None) -> Measurement:
    """Train and mark every model; some minutes on two cores with the default settings.

    Args:
        settings: what to measure instead of the course's measurement.

    Returns:
        Rows of window, layers, facts, seed, distance, accuracy (0 … 1) and count of questions.
    """
    settings, clock = settings or Settings(), Clock()
    cases = [
        Case(window, layers, facts, seed)
        for window in settings.windows
        for layers in settings.layers
        for facts in settings.facts
        for seed in settings.seeds
    ]
    one = partial(measure_one, settings=settings)
    if settings.workers == 1:
        tables = list(map(one, cases))
    else:
        with ProcessPoolExecutor(settings.workers, get_context("spawn")) as pool:
            tables = list(pool.map(one, cases))
    rows = [row for table in tables for row in table]
    return Measurement("recall", finding(rows), asdict(settings), rows, clock.seconds)


def curves(rows: Iterable[Row]) -> dict[Case, dict[int, list[float]]]:
    """For each stack (its seed is written 0) and distance, the accuracy of every seed."""
    found: dict[Case, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        case = Case(row["window"], row["layers"], row["facts"], 0)
        found[case][row["distance"]].append(row["accuracy"])
    return found


def summary(rows: Iterable[Row], enough: float = ENOUGH) -> list[Row]:
    """How far each stack recalls, beside how far it could.

    Args:
        rows: of the measurement.
        enough: the mean accuracy over seeds that counts as recalled, 0 … 1.

    Returns:
        For each window, depth and number of facts: the distance recalled; the reachable one; and
        the mean accuracy beyond it.

    >>> rows = [
    ...     {"window": 2, "layers": 2, "facts": 1, "seed": 0, "distance": far, "accuracy": share}
    ...     for far, share in ((1, 1.0), (2, 0.8), (3, 0.0))
    ... ]
    >>> summary(rows)[0]["recalled"], summary(rows, 0.5)[0]["recalled"], summary(rows)[0]["beyond"]
    (1, 2, 0.0)
    """
    found: list[Row] = []
    for case, curve in curves(rows).items():
        means = {far: float(np.mean(shares)) for far, shares in sorted(curve.items())}
        failing = (far for far, mean in means.items() if mean < enough)
        beyond = [mean for far, mean in means.items() if far > case.reachable]
        found.append(
            {
                "window": case.window,
                "layers": case.layers,
                "facts": case.facts,
                "recalled": next(failing, max(means) + 1) - 1,
                "reachable": case.reachable,
                "beyond": float(np.mean(beyond)),
            }
        )
    return found


def finding(rows: Sequence[Row]) -> str:
    """One sentence: how much of the reach each number of facts uses, and what is beyond it."""
    parts, stacks = [], summary(rows)
    for facts in sorted({stack["facts"] for stack in stacks}):
        those = [stack for stack in stacks if stack["facts"] == facts]
        shares = sorted(stack["recalled"] / stack["reachable"] for stack in those)
        ends = dict.fromkeys(f"{share:.0%}" for share in (shares[0], shares[-1]))
        beyond = float(np.mean([stack["beyond"] for stack in those]))
        parts.append(
            f"with {facts} fact{'s' * (facts > 1)} to {' … '.join(ends)} of L·(W − 1) tokens "
            f"({beyond:.0%} right beyond; guessing: {facts / FACTS:.0%})"
        )
    return f"Stacked windows recall {'; '.join(parts)}"


def draw(measurement: Measurement, path: Path) -> None:
    """Draw accuracy against distance, a panel for each window and number of facts, as a PNG."""
    found = curves(measurement.rows)
    windows = sorted({case.window for case in found})
    facts = sorted({case.facts for case in found})
    with sheet():
        figure = card(1.5 + 2.8 * len(facts), measurement.finding, width=1.0 + 4.1 * len(windows))
        for (down, few), (across, window) in product(enumerate(facts), enumerate(windows)):
            up = 0.8 + 2.8 * (len(facts) - 1 - down)
            axes = panel(figure, 0.75 + 4.1 * across, up, 3.5, 1.8)
            stacks = {c: f for c, f in found.items() if (c.window, c.facts) == (window, few)}
            _draw_stacks(axes, stacks)
            axes.set_title(f"W = {window}, {few} fact{'s' * (few > 1)} in a row", pad=16)
        figure.text(
            0.15 / figure.get_figwidth(),
            0.12 / figure.get_figheight(),
            "line: mean over seeds, band: their range; upright line: L·(W − 1), the farthest "
            "distance in reach; dotted line: guessing",
            size=8.5,
            color=QUIET,
        )
        figure.savefig(path, format="png")


def _draw_stacks(axes: Axes, stacks: dict[Case, dict[int, list[float]]]) -> None:
    for (case, curve), (dash, mark_, colour) in zip(stacks.items(), LOOKS, strict=False):
        far = sorted(curve)
        shares = 100 * np.array([curve[at] for at in far])
        look: dict[str, Any] = {
            "color": colour,
            "marker": mark_,
            "ms": 4,
            "markevery": max(1, len(far) // 12),
        }
        axes.plot(far, shares.mean(axis=1), dash, label=f"L = {case.layers}", **look)
        axes.fill_between(far, shares.min(axis=1), shares.max(axis=1), color=colour, alpha=0.2)
        axes.axvline(case.reachable, color=colour, ls=dash, lw=0.9, zorder=0)
        axes.annotate(
            str(case.reachable),
            (case.reachable, 103),
            ha="center",
            va="bottom",
            color=colour,
            size=8.5,
            annotation_clip=False,
        )
        axes.axhline(100 * case.facts / FACTS, color=LINE, ls=":", lw=0.8, zorder=0)
    axes.set(xlabel="distance from fact to question (tokens)", ylabel="right answers (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(ylim=(-3, 103), xlim=(0, None))
    axes.legend(loc="upper right", frameon=False, bbox_to_anchor=(1.02, 0.92))
