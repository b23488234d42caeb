"""The curriculum: which documents a step learns from, near things first and far things later.

    progress p = step / steps  ->  shares of notes, stories and recall;   distances up to d(p)

A batch is a function of (seed, step) alone and no text is ever shown twice, so a run that was
interrupted needs no data position to go on, and memorising a text cannot help.
Lesson: 10_heads_and_training.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from mistral_edu.training.batches import Batch, pack
from mistral_edu.training.dialogues import dialogue
from mistral_edu.training.documents import Document, Texts, dialogue_document
from mistral_edu.training.recall import recall_stream
from mistral_edu.training.world import SHAPES, split_of, tell

NOTES = ("notes", "notes", "notes", "two herds")
STORIES = tuple(SHAPES)


@dataclass(frozen=True)
class Lesson:
    """What is shown at one moment of the training.

    Args:
        notes, stories, recall: shares of the documents.
        farthest: the largest distance between a fact and its question, in tokens.
    """

    notes: float
    stories: float
    recall: float
    farthest: int


def lesson_at(progress: float, window: int) -> Lesson:
    """The plan: three quarters of a window at first, five windows from 80 % of the way on.

    >>> lesson_at(0.0, window=100).farthest, lesson_at(0.5, 100).farthest, lesson_at(1.0, 100).farthest
    (75, 287, 500)
    """
    ramp = min(1.0, max(0.0, (progress - 0.2) / 0.6))
    farthest = int(window * (0.75 + 4.25 * ramp))
    return Lesson(notes=0.6 - 0.3 * ramp, stories=0.25 + 0.25 * ramp, recall=0.15, farthest=farthest)


def text(random: Random, lesson: Lesson, context: int, texts: Texts) -> str:
    """Draw one text of the plan.

    >>> from mistral_edu.training.documents import Texts
    >>> class Letters:
    ...     eos_id = 2
    ...     def encode(self, text, bos=True, eos=False):
    ...         return [1] * bos + [ord(letter) for letter in text] + [2] * eos
    >>> "Answer:" in text(Random(0), Lesson(1, 0, 0, 100), 512, Texts(Letters(), 1.0))
    True
    """
    (kind,) = random.choices(
        ("notes", "stories", "recall"), (lesson.notes, lesson.stories, lesson.recall)
    )
    if kind == "recall":
        length = min(lesson.farthest * random.randint(1, 3), context - lesson.farthest - 60)
        return recall_stream(random, length, lesson.farthest, texts.measure)
    while True:
        story = tell(random, NOTES if kind == "notes" else STORIES)
        if split_of(story.body) == "train":
            return story.text
