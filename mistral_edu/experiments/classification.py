"""Does pretraining help to classify, and can counting words do the same?

    base model + fresh head  ->  fine-tune on labelled texts  ->  share of held-out texts right

Two tasks (`training/labelled.py`): "hat" asks who goes with what, which must be looked up
in the text; "sky" is told by single words. Four methods learn from the same examples: the base
model fine-tuned, a fresh model of its shape trained in the same way, and two bags of words.
Lesson: 10_heads_and_training.

Conventions
    Every weight is trained, by AdamW in float32. No example is seen twice. Models compute with one
    thread each, two at a time; seconds are those of learning, on one core.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random

import torch
from matplotlib import rc_context
from torch import nn

from mistral_edu.config import MistralConfig
from mistral_edu.experiments.bag_of_words import BagOfWords
from mistral_edu.experiments.record import Clock, Measurement, Row
from mistral_edu.heads import MistralForSequenceClassification
from mistral_edu.model import MistralModel
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training.labelled import TASKS, Example
from mistral_edu.training.parallel import one_thread_each
from mistral_edu.viz import style
from mistral_edu.weights.named import local_folder

TUNED, FRESH = "fine-tuned model", "fresh model"
WORDS, BIGRAMS = "bag of words", "bag of words and bigrams"
LOOKS = {
    TUNED: (style.BLUE, ""), FRESH: (style.SKY, "///"),
    WORDS: (style.VERMILLION, "..."), BIGRAMS: (style.PAPER, "xxx"),
}  # fmt: skip
SORTED_TOGETHER = 16


@dataclass(frozen=True)
class Settings:
    """Everything that decides the table.

    Args:
        model: of the base model, a name or a folder.
        steps: batches to learn from, for each task.
        rows: B.
        learning_rate: the highest of AdamW, for all weights.
        warmup: steps of linear increase; then it falls in a straight line to 0.
        held_out: examples to mark.
        seed: of the examples and of fresh weights.
    """

    model: str
    steps: Mapping[str, int]
    rows: int
    learning_rate: float
    warmup: int
    held_out: int
    seed: int

    def examples(self, task: str, split: str) -> list[Example]:
        """The examples that every method learns from ("train") or is marked on ("test")."""
        count = self.held_out if split == "test" else self.steps[task] * self.rows
        return TASKS[task].examples(self.seed, count, split)


def classifier(
    settings: Settings, labels: Sequence[str], pretrained: bool
) -> MistralForSequenceClassification:
    """A classifier with a fresh head, on the base model or on a fresh model of its shape.

    >>> settings = Settings("tiny", {}, 2, 1e-3, 1, 2, seed=0)
    >>> classifier(settings, ("no", "yes"), pretrained=True).score.weight.shape[0]
    2
    """
    folder = local_folder(settings.model)
    names = dict(enumerate(labels))
    config = MistralConfig.from_pretrained(folder).changed(num_labels=len(names), id2label=names)
    torch.manual_seed(settings.seed)
    model = MistralForSequenceClassification(config)
    if pretrained:
        model.model = MistralModel.from_pretrained(folder, dtype=torch.float32)
    return model


def batches(rows: Sequence[Sequence[int]], size: int, seed: int) -> Iterator[list[int]]:
    """Which rows go together: of similar length, so that there is little padding.

    >>> list(batches([[1], [1, 1, 1], [1], [1, 1, 1]], 2, seed=0))
    [[0, 2], [1, 3]]
    """
    random = Random(f"batches {seed}")
    for first in range(0, len(rows), size * SORTED_TOGETHER):
        near = range(first, min(first + size * SORTED_TOGETHER, len(rows)))
        order = sorted(near, key=lambda index: len(rows[index]))
        cut = [order[start : start + size] for start in range(0, len(order), size)]
        yield from random.sample(cut, len(cut))


def learn(
    model: MistralForSequenceClassification,
    tokenizer: MistralTokenizer,
    examples: Sequence[Example],
    settings: Settings,
) -> list[float]:
    """Train all weights in place, each example once; return the loss of every step, in nats."""
    adam = torch.optim.AdamW(model.parameters(), settings.learning_rate, betas=(0.9, 0.95))
    rows = [tokenizer.encode(example.text) for example in examples]
    losses: list[float] = []
    model.train()
    steps = len(rows) // settings.rows
    for step, chosen in enumerate(batches(rows, settings.rows, settings.seed)):
        share = min((step + 1) / settings.warmup, (steps - step) / steps)
        adam.param_groups[0]["lr"] = settings.learning_rate * share
        ids, mask = tokenizer.pad([rows[index] for index in chosen], side="right")
        labels = torch.tensor([examples[index].label for index in chosen])
        loss = model(ids, mask, labels=labels, use_cache=False).loss
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def predict(
    model: MistralForSequenceClassification, tokenizer: MistralTokenizer, texts: Sequence[str]
) -> list[int]:
    """The likeliest label of each text."""
    model.eval()
    ids, mask = tokenizer.encode_batch(texts, side="right")
    predicted: list[int] = model(ids, mask, use_cache=False).logits.argmax(dim=1).tolist()
    return predicted


def compare(settings: Settings, task: str, method: str) -> Row:
    """Let one method learn one task, and mark it on the held-out examples."""
    training, testing = settings.examples(task, "train"), settings.examples(task, "test")
    labels, texts = TASKS[task].labels, [example.text for example in testing]
    with one_thread_each():
        clock = Clock()
        if method in (TUNED, FRESH):
            tokenizer = MistralTokenizer.from_pretrained(local_folder(settings.model))
            model = classifier(settings, labels, pretrained=method == TUNED)
            learn(model, tokenizer, training, settings)
            seconds = clock.seconds
            predicted = predict(model, tokenizer, texts)
        else:
            known = [example.text for example in training], [example.label for example in training]
            bag = BagOfWords(*known, longest=1 if method == WORDS else 2)
            seconds = clock.seconds
            predicted = bag.predict(texts)
    right = sum(one == example.label for one, example in zip(predicted, testing, strict=True))
    return {
        "task": task, "method": method, "accuracy": right / len(testing),
        "chance": 1 / len(labels), "examples": len(training), "held out": len(testing),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def measure(
    model: str | Path = "tiny",
    hat_steps: int = 400,
    sky_steps: int = 300,
    rows: int = 32,
    learning_rate: float = 1e-3,
    held_out: int = 1000,
    seed: int = 0,
    workers: int = 2,
) -> Measurement:
    """Compare the four methods on the two tasks.

    Args:
        model, rows, learning_rate, held_out, seed: see `Settings`.
        hat_steps, sky_steps: batches to learn from.
        workers: processes, each with one thread; with 1 everything happens in this one.
    """
    clock = Clock()
    steps = {"hat": hat_steps, "sky": sky_steps}
    settings = Settings(str(model), steps, rows, learning_rate, 20, held_out, seed)
    jobs = [(settings, task, method) for task in steps for method in LOOKS]
    if workers == 1:
        found = [compare(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(compare, *zip(*jobs, strict=True)))
    return Measurement("classification", finding(found), asdict(settings), found, clock.seconds)


def above_chance(row: Row) -> bool:
    """Whether an accuracy is above what guessing gives by more than three standard errors.

    >>> above_chance({"accuracy": 0.54, "chance": 0.5, "held out": 1000})
    False
    """
    error = math.sqrt(row["chance"] * (1 - row["chance"]) / row["held out"])
    return bool(row["accuracy"] - row["chance"] > 3 * error)


def finding(rows: Sequence[Row]) -> str:
    """Say for each task which methods are above chance, and how often they are right.

    >>> finding([{"task": "sky", "method": "a", "accuracy": 0.9, "chance": 0.1, "held out": 50},
    ...          {"task": "sky", "method": "b", "accuracy": 0.1, "chance": 0.1, "held out": 50}])
    'sky: a 90 % right, the others no better than chance'
    """
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        good = [row for row in own if above_chance(row)]
        named = ", ".join(
            f"{row['method']} {row['accuracy']:.0%}".replace("%", " %") for row in good
        )
        rest = ", the others no better than chance" if len(good) < len(own) else ""
        parts.append(f"{task}: {named} right{rest}" if good else f"{task}: none above chance")
    return "; ".join(parts)


def draw(measurement: Measurement, path: Path) -> None:
    """Draw the accuracies as bars, a group for each task, with a line where guessing would be."""
    with style.sheet(), rc_context({"hatch.color": style.INK, "hatch.linewidth": 0.5}):
        figure = style.card(4.6, measurement.finding)
        axes = style.panel(figure, 0.8, 0.75, 6.5, 2.55)
        tasks = list(dict.fromkeys(row["task"] for row in measurement.rows))
        for row in measurement.rows:
            colour, hatch = LOOKS[row["method"]]
            left = tasks.index(row["task"]) + 0.2 * list(LOOKS).index(row["method"]) - 0.4
            height = 100 * row["accuracy"]
            axes.bar(left, height, 0.18, align="edge", color=colour, hatch=hatch,
                     label=row["method"] if row["task"] == tasks[0] else None,
                     edgecolor=style.INK, lw=0.8)  # fmt: skip
            axes.text(left + 0.09, height + 1, f"{height:.0f}", ha="center", size=8.5)
            chance = 100 * row["chance"]
            axes.plot((left - 0.02, left + 0.2), (chance, chance), "--", color=style.INK)
        axes.set_xticks(range(len(tasks)), tasks)
        axes.set(ylabel="held-out texts right (%)", ylim=(0, 112), yticks=range(0, 101, 25))
        axes.set(xlabel="task (dashed: chance)")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        figure.savefig(path)
