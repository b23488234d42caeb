"""From multi-head to grouped-query attention: three ways to convert, and a little more training.

    train multi-head  →  pool key/value heads: mean | first | random  →  train a few per cent more

Source: Ainslie et al., "GQA" (arXiv 2305.13245), section 2.1 and figures 4 and 5: mean pooling is
better than the first head of each group, which is better than random heads; 5 % more training
recovers most of the loss.
Lesson: 05_grouped_query_attention.

Conventions
    The share counts steps of further training against the steps of the multi-head model's own. Each
    share is a run of its own, whose learning rate falls to 1 % by its end, so every point is the
    end of a finished run. Its highest rate is a third of the first training's. The multi-head
    model, unpooled, is trained further in the same way: the methods are compared with it.
    All runs of one seed go on from one model and learn from the same new batches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from matplotlib.axes import Axes

from mistral_edu.experiments.record import Clock, Measurement, Row
from mistral_edu.experiments.small_models import (
    fresh_model,
    held_out,
    learn,
    recipe_for,
    side_by_side,
    tokenizer_for,
    window_of,
)
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training.loop import Trainer, held_out_loss
from mistral_edu.training.recipe import Recipe, TrainingOptions
from mistral_edu.viz.style import BLUE, INK, QUIET, VERMILLION, card, panel, sheet
from mistral_edu.weights.pooling import Method, pool_key_value_heads

UNPOOLED = "multi-head"
LOOKS = {
    UNPOOLED: (":", "D", INK),
    "mean": ("-", "o", BLUE),
    "first": ("--", "s", VERMILLION),
    "random": ("-.", "^", QUIET),
}


@dataclass(frozen=True)
class Job:
    """One seed's multi-head model, to train, convert and train further."""

    recipe: Recipe
    tokenizer: MistralTokenizer
    kept: int
    shares: tuple[float, ...]
    held_out_rows: int


def measure(
    steps: int = 1000,
    seeds: Sequence[int] = (0, 1),
    shares: Sequence[float] = (0.0, 0.02, 0.05, 0.1),
    kept: int = 2,
    held_out_rows: int = 32,
    workers: int = 2,
    shape: Mapping[str, Any] | None = None,
) -> Measurement:
    """Train multi-head models, pool their heads, and measure the loss after further training.

    Args:
        steps: of the multi-head model's training.
        seeds: one multi-head model each.
        shares: steps of further training as shares of `steps`, rising.
        kept: key/value heads to make; divides those of the multi-head model.
        held_out_rows: rows of 512 tokens for the loss.
        workers: seeds at once.
        shape: fields of `MistralConfig` that differ from `small_models.SHAPE`.
    """
    clock = Clock()
    recipes = [recipe_for(seed, steps, shape or {}) for seed in seeds]
    tokenizer = tokenizer_for(recipes[0])
    jobs = [Job(recipe, tokenizer, kept, tuple(shares), held_out_rows) for recipe in recipes]
    answers = side_by_side(convert_and_train, jobs, workers, progress=workers > 1)
    rows = [row for answer in answers for row in answer]
    further = max(shares)
    settings = {
        "kept": kept,
        "seeds": list(seeds),
        "shares": list(shares),
        "held_out_rows": held_out_rows,
        "training": asdict(recipes[0].training),
        "further_training": asdict(further_options(recipes[0].training, further)),
        "curriculum": [asdict(stage) for stage in recipes[0].curriculum],
        "model": recipes[0].model,
    }
    return Measurement("pooling", finding(rows), settings, rows, clock.seconds)


def convert_and_train(job: Job) -> list[Row]:
    """Train one multi-head model; convert it by each method; train each for each share."""
    base = Trainer(fresh_model(job.recipe), job.recipe.training)
    learn(base, job.recipe, job.tokenizer, job.recipe.training.steps)
    batches = held_out(job.recipe, job.tokenizer, window_of(base.model), job.held_out_rows)
    rows: list[Row] = []
    for method in (UNPOOLED, *get_args(Method)):
        for share in job.shares:
            model = train_further(converted(base.model, method, job), share, job)
            loss = round(held_out_loss(model, batches), 4)
            rows.append({"seed": job.recipe.seed, "method": method, "share": share, "loss": loss})
    return rows


def converted(model: MistralForCausalLM, method: str, job: Job) -> MistralForCausalLM:
    """A copy of the multi-head model, with fewer key/value heads unless it stays unpooled."""
    if method == UNPOOLED:
        # As many heads as there are: each is the mean of itself alone.
        return pool_key_value_heads(model, model.config.num_key_value_heads)
    return pool_key_value_heads(model, job.kept, method, job.recipe.seed)


def train_further(model: MistralForCausalLM, share: float, job: Job) -> MistralForCausalLM:
    """Train a model in place for a share of the first training's steps, on batches not yet seen."""
    done = job.recipe.training.steps
    if steps := round(share * done):
        trainer = Trainer(model, further_options(job.recipe.training, share))
        learn(trainer, job.recipe, job.tokenizer, steps, first=done)
    return model


def further_options(options: TrainingOptions, share: float) -> TrainingOptions:
    """How to train further: a third of the learning rates, up in a tenth of the steps, then down.

    >>> further = further_options(TrainingOptions(steps=2000, learning_rate=3e-3), share=0.05)
    >>> further.steps, further.warmup, further.decay_steps, further.learning_rate
    (100, 10, 90, 0.001)
    """
    steps = max(1, round(share * options.steps))
    warmup = max(1, steps // 10)
    return replace(
        options,
        steps=steps,
        warmup=warmup,
        decay_steps=steps - warmup,
        learning_rate=options.learning_rate / 3,
        matrix_learning_rate=options.matrix_learning_rate / 3,
    )


def means(rows: Sequence[Row]) -> dict[str, dict[float, float]]:
    """The mean loss over the seeds, for each method and share.

    >>> row = {"seed": 0, "method": "mean", "share": 0.0, "loss": 2.0}
    >>> means([row, row | {"seed": 1, "loss": 3.0}])
    {'mean': {0.0: 2.5}}
    """
    losses: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        of_method = losses.setdefault(row["method"], {})
        of_method.setdefault(row["share"], []).append(row["loss"])
    return {
        method: {share: fmean(found) for share, found in by_share.items()}
        for method, by_share in losses.items()
    }


def finding(rows: Sequence[Row]) -> str:
    """Say how far above the multi-head model each method is, before and after further training.

    >>> table = {"multi-head": (2.0, 1.9), "mean": (2.5, 2.0), "first": (3.0, 2.2)}
    >>> finding([{"seed": 0, "method": method, "share": share, "loss": loss}
    ...     for method, both in table.items() for share, loss in zip((0.0, 0.1), both)])
    'Loss above the multi-head model, before and after 10 % more training: mean +0.50 and +0.10, \
first +1.00 and +0.30'
    """
    found = means(rows)
    least, most = min(found[UNPOOLED]), max(found[UNPOOLED])
    above = [
        f"{method} {found[method][least] - found[UNPOOLED][least]:+.2f} "
        f"and {found[method][most] - found[UNPOOLED][most]:+.2f}"
        for method in sorted(found.keys() - {UNPOOLED}, key=lambda name: found[name][most])
    ]
    return (
        f"Loss above the multi-head model, before and after {100 * most:g} % more training: "
        + ", ".join(above)
    )


def draw(measurement: Measurement, path: Path) -> None:
    """Draw held-out loss against further training: on the left all, on the right without 0 %."""
    shares, kept = measurement.settings["shares"], measurement.settings["kept"]
    with sheet():
        figure = card(4.8, measurement.finding)
        for left, shown in ((0.7, shares), (4.4, [share for share in shares if share])):
            axes = panel(figure, left, 0.65, 2.9, 3.1)
            rows = [row for row in measurement.rows if row["share"] in shown]
            for method in LOOKS:
                _plot(axes, rows, method, kept)
            axes.set_xticks([100 * share for share in shown])
            axes.set(xlabel="further training (% of the steps before)")
        figure.axes[0].set(ylabel="held-out loss (nats per token)", title="from the conversion on")
        figure.axes[1].set(title="the same, enlarged: after further training")
        figure.axes[0].legend(frameon=False, title="line: mean · small marks: seeds")
        figure.savefig(path)


def _plot(axes: Axes, rows: Sequence[Row], method: str, kept: int) -> None:
    """The line of one method's means, and a small mark for each seed."""
    dash, mark, colour = LOOKS[method]
    each = [row for row in rows if row["method"] == method]
    line = means(each)[method]
    shares = [100 * share for share in line]
    axes.plot(shares, [*line.values()], dash, marker=mark, color=colour, label=_label(method, kept))
    where = [100 * row["share"] for row in each]
    axes.plot(where, [row["loss"] for row in each], mark, color=colour, ms=3, mfc="none")


def _label(method: str, kept: int) -> str:
    source = {"mean": "mean of group", "first": "first of group", "random": "random"}
    return f"{kept} KV: {source[method]}" if method in source else method
