"""Marking a model: which held-out questions it answers, by kind and by distance.

    right  ⇔  the likeliest token is the answer's at each of its tokens, and then an end

That is what greedy decoding would write, found in one forward pass for many questions.
Lesson: 10_heads_and_training; 15_long_context for the distances.

Conventions
    The distance of an answer is counted in tokens from the end of its last mention in the text to
    the end of the prompt. For a sum the number's own mentions mean nothing, so it has none.
    Everything held out: pairs of names and texts that training never shows.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch.nn import functional

from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training.documents import Document, Texts
from mistral_edu.training.recall import recall_probe
from mistral_edu.training.world import Story, stories, tell

BATCH = 16


@dataclass(frozen=True)
class Item:
    """One thing to mark: a document and the span of it that must be foreseen.

    Args:
        ids: the document's token ids.
        start, end: the span, end excluded.
        labels: names of the groups it counts in.
        stops: ids of which one must follow the span.
    """

    ids: list[int]
    start: int
    end: int
    labels: tuple[str, ...]
    stops: tuple[int, ...]


@torch.no_grad()
def mark(model: MistralForCausalLM, items: Sequence[Item]) -> list[bool]:
    """Say of each item whether greedy decoding writes its span."""
    model.eval()
    right = [False] * len(items)
    by_length = sorted(range(len(items)), key=lambda index: len(items[index].ids))
    for first in range(0, len(by_length), BATCH):
        chosen = by_length[first : first + BATCH]
        longest = max(len(items[index].ids) for index in chosen)
        rows = [torch.tensor(items[index].ids) for index in chosen]
        ids = torch.stack([functional.pad(row, (0, longest - len(row))) for row in rows])
        real = torch.stack(
            [torch.arange(longest) < len(row) for row in rows]
        )  # Padding is on the right and sees nothing.
        output = model(ids.to(model.device), attention_mask=real.long(), use_cache=False)
        likeliest = output.logits.argmax(dim=-1).cpu()
        for row, index in enumerate(chosen):
            item = items[index]
            *written, stop = likeliest[row, item.start - 1 : item.end].tolist()
            right[index] = written == item.ids[item.start : item.end] and stop in item.stops
    return right


def shares(items: Sequence[Item], right: Sequence[bool]) -> dict[str, tuple[float, int]]:
    """For each label, the share of its items that are right, and how many it has.

    >>> shares([Item([1], 0, 1, ("a", "b"), ()), Item([1], 0, 1, ("a",), ())], [True, False])
    {'a': (0.5, 2), 'b': (1.0, 1)}
    """
    marks: dict[str, list[bool]] = defaultdict(list)
    for item, good in zip(items, right, strict=True):
        for label in item.labels:
            marks[label].append(good)
    return {label: (sum(m) / len(m), len(m)) for label, m in sorted(marks.items())}


def window_label(distance: int, window: int) -> str:
    """The group of a distance: how many windows away, rounded up.

    >>> window_label(63, 64), window_label(64, 64), window_label(65, 64)
    ('within 1 window', 'within 1 window', 'within 2 windows')
    """
    windows = max(1, -(-distance // window))
    return f"within {windows} window{'s' * (windows > 1)}"


def story_items(
    tokenizer: MistralTokenizer, seed: int, count: int, window: int, questions: int = 3
) -> list[Item]:
    """Held-out stories, each with its first questions, asked one at a time."""
    texts = Texts(tokenizer, 1.0)
    items = []
    for story in stories(seed, split="test", count=count):
        for question in story.questions[:questions]:
            document = texts.document(f"{story.prompt(question)} {question.answer}")
            labels = ["all", f"asks: {question.kind}", f"shape: {story.shape}"]
            if not question.addends:
                away = distance(story, question.answer, story.prompt(question), texts)
                labels.append(window_label(away, window))
            items.append(_item(document, texts, tuple(labels)))
    return items


def brief_items(tokenizer: MistralTokenizer, count: int) -> list[Item]:
    """The questions of held-out texts of a few facts of one kind: a window or two at most."""
    texts, items = Texts(tokenizer, 1.0), []
    for number in range(count):
        story = tell(Random(f"held-out brief {number}"), ("brief",), "test")
        for question in story.questions:
            document = texts.document(f"{story.prompt(question)} {question.answer}")
            items.append(_item(document, texts, ("brief",)))
    return items


def distance(story: Story, answer: str, prompt: str, texts: Texts) -> int:
    """Tokens from the end of the answer's last mention in the body to the end of the prompt."""
    place = story.body.lower().rfind(answer.lower())
    return texts.measure(prompt[place + len(answer) :])


def recall_items(
    tokenizer: MistralTokenizer, distances: Iterable[int], count: int, facts: int = 1
) -> list[Item]:
    """Held-out recall probes, `count` for each distance, labelled with the distance asked for."""
    texts = Texts(tokenizer, 1.0)
    items = []
    for away in distances:
        for number in range(count):
            random = Random(f"held-out probe {facts} {away} {number}")
            probe = recall_probe(random, away, texts.measure, facts, "test")
            items.append(_item(texts.document(probe.text), texts, (str(away),)))
    return items


def _item(document: Document, texts: Texts, labels: tuple[str, ...]) -> Item:
    start, end = texts.answers(document.ids)[-1]
    stops = (texts.newline, texts.tokenizer.eos_id or 0)
    return Item(document.ids, start, end - 1, labels, stops)
