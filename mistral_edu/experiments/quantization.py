"""What fewer bits cost: the same model with its matrices in 32, 16, 8 and 4 bits.

    cost = loss with fewer bits − loss in float32,   on the same held-out texts

Source: Dettmers et al., "LLM.int8()" (arXiv 2208.07339), and Frantar et al., "GPTQ"
(arXiv 2210.17323), which measure it on large models; a small one may suffer more.
Lesson: 14_the_full_7b.

Conventions
    Only the matrices of the decoder layers are rounded. All else stays in float32, except for
    "bfloat16", where everything is cast.
    A cost comes with its standard error over the texts: the differences vary far less than the
    losses themselves. Questions are those of the model's card.
    "4 bits a row" is rounded, then computed in float32: nobody would use it, and it says why groups
    exist.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import nn

from mistral_edu import load
from mistral_edu.experiments.perplexity import chain, losses
from mistral_edu.experiments.record import Clock, Measurement, Row
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.quantization_int4 import MIDDLE, quantize_groups
from mistral_edu.quantized_model import linear_names, quantize_model, weight_bytes
from mistral_edu.training.evaluation import Item, mark, story_items
from mistral_edu.viz.style import BLUE, INK, QUIET, SKY, card, panel, sheet

EXACT, CAST = "float32", "bfloat16"


@dataclass(frozen=True)
class Settings:
    """What is measured; the defaults are the course's measurement.

    Args:
        model: a name that `load` knows.
        documents, length: held-out texts of so many tokens, for the loss.
        stories: held-out stories whose questions are asked.
        groups: sizes of the groups of 4-bit weights.
    """

    model: str = "tiny"
    documents: int = 48
    length: int = 512
    stories: int = 100
    groups: tuple[int, ...] = (64, 32)


def rounded_by_row(model: MistralForCausalLM) -> MistralForCausalLM:
    """The model with each row of its matrices rounded to sixteen numbers; in place."""
    for name in linear_names(model):
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        weight = linear.weight.data
        codes, steps, zeros = quantize_groups(weight, weight.shape[1])
        weight.copy_(zeros + steps * (codes - MIDDLE))
    return model


Change = Callable[[MistralForCausalLM], MistralForCausalLM]


def ways(groups: Sequence[int]) -> dict[str, Change]:
    """What is done to a copy of the model, by name, the most exact first."""

    def in_groups(size: int) -> Change:
        return lambda model: quantize_model(model, bits=4, group=size)

    return {
        EXACT: lambda model: model,
        CAST: lambda model: model.to(torch.bfloat16),
        "8 bits a row": quantize_model,
        **{f"4 bits, groups of {size}": in_groups(size) for size in sorted(groups)},
        "4 bits a row": rounded_by_row,
    }


@torch.no_grad()
def measure(settings: Settings | None = None) -> Measurement:
    """Read the same texts and answer the same questions in every precision; a minute or two.

    Args:
        settings: what; None takes the course's.
    """
    settings, clock = settings or Settings(), Clock()
    model, tokenizer = load(settings.model)
    texts = [chain(tokenizer, seed, settings.length) for seed in range(settings.documents)]
    window = model.config.sliding_window or settings.length
    items = story_items(tokenizer, 0, settings.stories, window)
    found = {
        name: _read(change(copy.deepcopy(model)), texts, items)
        for name, change in ways(settings.groups).items()
    }
    rows = [_row(name, found) for name in found]
    return Measurement("quantization", finding(rows), asdict(settings), rows, clock.seconds)


@dataclass(frozen=True)
class Read:
    """What one precision gave: bytes of all weights, each text's loss, each answer right or not."""

    size: int
    losses: list[float]
    right: list[bool]


def _read(model: MistralForCausalLM, texts: Sequence[torch.Tensor], items: Sequence[Item]) -> Read:
    each = [float(losses(model, ids)[1:].float().mean()) for ids in texts]
    return Read(weight_bytes(model), each, mark(model, items))


def _row(name: str, found: dict[str, Read]) -> Row:
    mine, exact = found[name], found[EXACT]
    rises = [a - b for a, b in zip(mine.losses, exact.losses, strict=True)]
    changed = [a != b for a, b in zip(mine.right, exact.right, strict=True)]
    return {
        "precision": name,
        "bytes": mine.size if name != "4 bits a row" else None,
        "loss": round(fmean(mine.losses), 5),
        "rise": round(fmean(rises), 5),
        "standard_error": round(stdev(rises) / len(rises) ** 0.5, 5),
        "right": round(fmean(mine.right), 4),
        "answers_changed": round(fmean(changed), 4),
        "questions": len(changed),
    }


def finding(rows: Sequence[Row]) -> str:
    """What 8 bits cost, and the best 4, in loss.

    >>> row = {"precision": "8 bits a row", "rise": 0.0011, "standard_error": 0.0002}
    >>> finding([row, row | {"precision": "4 bits, groups of 32", "rise": 0.05}])
    '8 bits a row cost 0.0011 ± 0.0002 nats a token, 4 bits, groups of 32 cost 0.0500 ± 0.0002'
    """
    eight = next(row for row in rows if row["precision"].startswith("8 bits"))
    four = [row for row in rows if row["precision"].startswith("4 bits, groups")]
    best = min(four, key=lambda row: row["rise"])
    said = [
        f"{row['precision']} cost {row['rise']:.4f} ± {row['standard_error']:.4f}"
        for row in (eight, best)
    ]
    return f"{said[0]} nats a token, {said[1]}"


def draw(measurement: Measurement, path: Path) -> None:
    """Draw the rise of the loss, with its standard error, and the share of right answers."""
    rows = [row for row in measurement.rows if row["precision"] != EXACT]
    exact = next(row for row in measurement.rows if row["precision"] == EXACT)
    places = range(len(rows))
    with sheet():
        figure = card(3.7, measurement.finding)
        cost = panel(figure, 1.75, 0.6, 2.5, 2.3)
        errors = [row["standard_error"] for row in rows]
        cost.barh(places, [row["rise"] for row in rows], 0.7, color=BLUE, xerr=errors, ecolor=INK)
        for place, row in zip(places, rows, strict=True):
            right = max(row["rise"], 0) + row["standard_error"]
            cost.annotate(
                f"{row['rise']:.3f}",
                (right, place),
                (4, 0),
                textcoords="offset points",
                va="center",
                size=8.5,
                color=QUIET,
            )
        cost.set_yticks(places, [row["precision"] for row in rows])
        cost.invert_yaxis()
        cost.margins(x=0.25)
        cost.set(xlabel="rise of the loss (nats a token)")
        answers = panel(figure, 4.75, 0.6, 2.5, 2.3)
        answers.barh(places, [100 * row["right"] for row in rows], 0.7, color=SKY)
        for place, row in zip(places, rows, strict=True):
            answers.text(2, place, f"{row['right']:.1%}", va="center", size=8.5)
        answers.axvline(100 * exact["right"], color=INK, lw=1.2, ls="--")
        answers.set_yticks([])
        answers.invert_yaxis()
        answers.set(xlabel="right answers (%); dashed: float32", xlim=(0, 100))
        figure.savefig(path, format="png")
