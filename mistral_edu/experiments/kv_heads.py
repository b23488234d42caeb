"""Quality against the number of key/value heads, when the cache may hold so many bytes and no more.

    cache bytes = L · 2 · Hkv · W · D · bytes per number:   half the heads, twice the window

Source: "Mistral 7B" (arXiv 2310.06825) has 8 key/value heads for 32 query heads; Ainslie et al.,
"GQA" (arXiv 2305.13245), figure 6, varies their number.
Lesson: 15_long_context.

Conventions
    Every model of one seed learns from the same tokens in the same order, whatever its window
    (`small_models`). The cache is measured in the model itself, after it has read a row longer than
    any window, in float32. Fewer key/value heads are fewer parameters too; nothing makes up for it.
    A model whose heads times window equal `slots` belongs to the line of equal cache, one whose
    window is `window` to the line of equal window; one model can belong to both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.axes import Axes

from mistral_edu.experiments.record import Clock, Measurement, Row
from mistral_edu.experiments.small_models import (
    fresh_model,
    held_out,
    learn,
    recipe_for,
    side_by_side,
    tokenizer_for,
)
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training.batches import Batch
from mistral_edu.training.loop import Trainer, held_out_loss
from mistral_edu.training.recipe import Recipe
from mistral_edu.viz.style import BLUE, PAPER, QUIET, VERMILLION, card, panel, sheet


@dataclass(frozen=True)
class Job:
    """One model to train and measure."""

    recipe: Recipe
    tokenizer: MistralTokenizer
    held_out_rows: int


def measure(
    steps: int = 300,
    seeds: Sequence[int] = (0, 1),
    heads: Sequence[int] = (1, 2, 4, 8),
    slots: int = 256,
    window: int = 64,
    held_out_rows: int = 32,
    workers: int = 2,
    shape: Mapping[str, Any] | None = None,
) -> Measurement:
    """Train one model for each number of heads at equal cache and at equal window.

    Args:
        steps: of training, for each model.
        seeds: one set of models each.
        heads: numbers of key/value heads, each of which divides `slots` and the query heads.
        slots: heads times window on the line of equal cache.
        window: W on the line of equal window.
        held_out_rows: rows of 512 tokens for the loss.
        workers: models trained at once.
        shape: fields of `MistralConfig` that differ from `small_models.SHAPE`.

    Raises:
        ValueError: `slots` cannot be shared among so many heads, or models that should have
            caches of equal size have not.
    """
    clock = Clock()
    recipes = recipes_for(steps, seeds, heads, slots, window, shape or {})
    tokenizer = tokenizer_for(recipes[0])
    jobs = [Job(recipe, tokenizer, held_out_rows) for recipe in recipes]
    rows = side_by_side(train_and_measure, jobs, workers, progress=workers > 1)
    equal = {row["cache_bytes"] for row in rows if row["kv_heads"] * row["window"] == slots}
    if len(equal) != 1:
        raise ValueError(f"caches of {sorted(equal)} bytes at slots={slots}; expected equal ones")
    own = {"slots": slots, "window": window, "seeds": list(seeds), "held_out_rows": held_out_rows}
    settings = own | shared_settings(recipes[0])
    return Measurement("kv_heads", finding(rows, slots), settings, rows, clock.seconds)


def recipes_for(
    steps: int,
    seeds: Sequence[int],
    heads: Sequence[int],
    slots: int,
    window: int,
    shape: Mapping[str, Any],
) -> list[Recipe]:
    """A recipe for each model on the two lines, and each seed; arguments as for `measure`.

    >>> recipes = recipes_for(30, [0], [1, 4], slots=256, window=64, shape={})
    >>> [(r.model["num_key_value_heads"], r.model["sliding_window"]) for r in recipes]
    [(1, 64), (1, 256), (4, 64)]
    """
    if uneven := [number for number in heads if slots % number]:
        raise ValueError(f"slots={slots} is not a multiple of {uneven} heads: choose one that is")
    pairs = sorted({(n, w) for n in heads for w in (slots // n, window)})
    return [
        recipe_for(seed, steps, {**shape, "num_key_value_heads": n, "sliding_window": w})
        for n, w in pairs
        for seed in seeds
    ]


def shared_settings(recipe: Recipe) -> dict[str, Any]:
    """What all models have in common, for the record."""
    differing = dict.fromkeys(("num_key_value_heads", "sliding_window"), "see rows")
    return {
        "training": asdict(recipe.training),
        "curriculum": [asdict(stage) for stage in recipe.curriculum],
        "model": {**recipe.model, **differing},
    }


def train_and_measure(job: Job) -> Row:
    """Train one model from its first weights and measure its loss and its cache."""
    model = fresh_model(job.recipe)
    window = job.recipe.model["sliding_window"]
    trainer = Trainer(model, job.recipe.training)
    learn(trainer, job.recipe, job.tokenizer, job.recipe.training.steps)
    batches = held_out(job.recipe, job.tokenizer, window, job.held_out_rows)
    return {
        "kv_heads": model.config.num_key_value_heads,
        "window": window,
        "cache_bytes": cache_bytes(model, batches[0]),
        "seed": job.recipe.seed,
        "loss": round(held_out_loss(model, batches), 4),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


@torch.no_grad()
def cache_bytes(model: MistralForCausalLM, batch: Batch) -> int:
    """Bytes of keys and values that a model holds after the first row of a batch."""
    return model(batch.ids[:1], use_cache=True).past_key_values.nbytes


def line(rows: Sequence[Row], *, slots: int = 0, window: int = 0) -> list[Row]:
    """One line of the figure: the mean over the seeds for each number of heads, in order.

    Args:
        rows: of the table.
        slots: heads times window of the models that belong to the line of equal cache, or
        window: their window, if it is the line of equal window.

    >>> row = {"kv_heads": 2, "window": 8, "cache_bytes": 64, "seed": 0, "loss": 3.0}
    >>> line([row, row | {"seed": 1, "loss": 4.0}, row | {"window": 4}], slots=16)[0]["loss"]
    3.5
    """
    chosen = [r for r in rows if r["kv_heads"] * r["window"] == slots or r["window"] == window]
    means: list[Row] = []
    for heads in sorted({row["kv_heads"] for row in chosen}):
        same = [row for row in chosen if row["kv_heads"] == heads]
        means.append({**same[0], "seed": None, "loss": fmean(row["loss"] for row in same)})
    return means


def finding(rows: Sequence[Row], slots: int) -> str:
    """Say which model on the line of equal cache has the lowest loss, and in how many seeds.

    >>> row = {"kv_heads": 1, "window": 8, "cache_bytes": 2048, "seed": 0, "loss": 3.0}
    >>> finding([row, row | {"kv_heads": 2, "window": 4, "loss": 3.5}], slots=8)
    'In 2 KiB of cache, 1 KV head × window 8 has the lowest held-out loss in 1 of 1 seeds: 3.00, \
against 3.50 for 2 KV heads × window 4'
    """
    means = line(rows, slots=slots)
    best, worst = (choose(means, key=lambda row: row["loss"]) for choose in (min, max))
    equal = [row for row in rows if row["kv_heads"] * row["window"] == slots]
    seeds = sorted({row["seed"] for row in equal})
    lowest = [min((r for r in equal if r["seed"] == s), key=lambda row: row["loss"]) for s in seeds]
    won = sum(row["kv_heads"] == best["kv_heads"] for row in lowest)
    return (
        f"In {_size(best)} of cache, {_named(best)} has the lowest held-out loss "
        f"in {won} of {len(seeds)} seeds: {best['loss']:.2f}, against {worst['loss']:.2f} for "
        f"{_named(worst)}"
    )


def _named(row: Row) -> str:
    heads = row["kv_heads"]
    return f"{heads} KV head{'s' * (heads > 1)} × window {row['window']}"


def _size(row: Row) -> str:
    return f"{row['cache_bytes'] / 1024:g} KiB"


def draw(measurement: Measurement, path: Path) -> None:
    """Draw held-out loss against key/value heads: a line of means, a small mark for each seed."""
    settings, rows = measurement.settings, measurement.rows
    with sheet():
        figure = card(4.6, measurement.finding)
        axes = panel(figure, 0.8, 0.65, 6.4, 3.1)
        equal_cache = line(rows, slots=settings["slots"])
        equal_window = line(rows, window=settings["window"])
        size = _size(equal_cache[0])
        _plot(axes, equal_cache, rows, ("-", "o", BLUE), f"equal cache ({size})")
        label = f"equal window ({settings['window']} tokens)"
        _plot(axes, equal_window, rows, ("--", "s", VERMILLION), label)
        for row, other in zip(equal_cache, equal_window, strict=True):
            # Each label on its own line's outer side, so that they never meet.
            higher = row["loss"] > other["loss"]
            _note(axes, row, f"W = {row['window']}", 16 if higher else -24)
            _note(axes, other, _size(other), -24 if higher else 16)
        heads = [row["kv_heads"] for row in equal_cache]
        axes.set_xscale("log", base=2)
        axes.set_xticks(heads, [str(number) for number in heads])
        axes.margins(x=0.1, y=0.2)
        axes.set(xlabel="key/value heads (count)", ylabel="held-out loss (nats per token)")
        axes.legend(frameon=False, title="line: mean · small marks: seeds")
        figure.savefig(path)


def _plot(
    axes: Axes, means: Sequence[Row], rows: Sequence[Row], look: tuple[str, str, str], label: str
) -> None:
    dash, mark, colour = look
    heads = [row["kv_heads"] for row in means]
    axes.plot(heads, [row["loss"] for row in means], dash, marker=mark, color=colour, label=label)
    pairs = {(row["kv_heads"], row["window"]) for row in means}
    each = [row for row in rows if (row["kv_heads"], row["window"]) in pairs]
    where = [row["kv_heads"] for row in each]
    axes.plot(where, [row["loss"] for row in each], mark, color=colour, ms=3, mfc="none")


def _note(axes: Axes, row: Row, text: str, above: int) -> None:
    axes.annotate(
        text,
        (row["kv_heads"], row["loss"]),
        (0, above),
        textcoords="offset points",
        ha="center",
        color=QUIET,
        size=8.5,
        # A card behind the words: lines and marks of other models may pass there.
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1},
    )
