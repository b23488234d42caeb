"""The curriculum: which documents a step learns from, near things first and far things later.

    progress p = step / ramp  ->  shares of each kind;   distances up to d(p)

Lists that are said again come first: copying what stands there is the first step of every answer.
Without them a small model saw 3.4 million tokens and copied nothing; with them it began to copy
after half a million.

A batch is a function of (seed, step) alone and no text is ever shown twice, so a run that was
interrupted needs no data position to go on, and memorising a text cannot help.
Lesson: 10_heads_and_training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training.batches import Batch, pack
from mistral_edu.training.dialogues import dialogue
from mistral_edu.training.documents import Document, Texts, dialogue_document
from mistral_edu.training.recall import recall_stream
from mistral_edu.training.recipe import Recipe
from mistral_edu.training.world import SHAPES, split_of, stories, tell

NOTES = ("notes", "notes", "notes", "two herds")
STORIES = tuple(SHAPES)
KINDS = ("echo", "retelling", "brief", "notes", "stories", "recall", "pairs")
PLAN = (  # (progress, shares of KINDS, windows between a fact and its question in recall)
    (0.0, (0.30, 0.15, 0.25, 0.00, 0.05, 0.05, 0.20), 0.75),
    (0.3, (0.30, 0.15, 0.25, 0.00, 0.05, 0.05, 0.20), 0.75),
    (0.5, (0.05, 0.10, 0.40, 0.05, 0.10, 0.05, 0.25), 1.00),
    (0.7, (0.05, 0.10, 0.40, 0.05, 0.10, 0.05, 0.25), 1.00),
    (1.0, (0.02, 0.03, 0.17, 0.20, 0.43, 0.12, 0.03), 4.50),
)


@dataclass(frozen=True)
class Lesson:
    """What is shown at one moment of the training.

    Args:
        shares: of each of `KINDS` among the documents.
        farthest: the largest distance between a fact and its question in recall, in tokens.
    """

    shares: tuple[float, ...]
    farthest: int


def lesson_at(progress: float, window: int) -> Lesson:
    """The plan at one moment: straight lines between the rows of `PLAN`.

    >>> [lesson_at(progress, window=100).farthest for progress in (0.0, 0.3, 0.7, 0.85, 2.0)]
    [75, 75, 100, 275, 450]
    """
    progress = min(progress, PLAN[-1][0])
    after = next(place for place, row in enumerate(PLAN) if place and progress <= row[0])
    (start, first, near), (end, last, far) = PLAN[after - 1], PLAN[after]
    part = (progress - start) / (end - start)
    shares = tuple(a + part * (b - a) for a, b in zip(first, last, strict=True))
    return Lesson(shares, int(window * (near + part * (far - near))))


def text(random: Random, lesson: Lesson, context: int, texts: Texts) -> str:
    """Draw one text of the plan.

    >>> from mistral_edu.training.documents import Texts
    >>> class Letters:
    ...     eos_id = 2
    ...     def encode(self, text, bos=True, eos=False):
    ...         return [1] * bos + [ord(letter) for letter in text] + [2] * eos
    >>> "Answer:" in text(Random(0), Lesson((0, 0, 1, 0, 0, 0, 0), 100), 512, Texts(Letters(), 1.0))
    True
    """
    (kind,) = random.choices(KINDS, lesson.shares)
    if kind == "recall":
        length = min(lesson.farthest * random.randint(1, 3), context - lesson.farthest - 60)
        return recall_stream(random, length, lesson.farthest, texts.measure)
    shapes = {"stories": STORIES, "notes": NOTES}.get(kind, (kind,))
    while True:
        story = tell(random, shapes)
        if split_of(story.body) == "train":
            return story.text


def documents(
    recipe: Recipe, tokenizer: MistralTokenizer, step: int, window: int
) -> Iterator[Document]:
    """Draw training documents of one step without end."""
    random = Random(f"{recipe.kind} {recipe.seed} {step}")
    options = recipe.training
    texts = Texts(tokenizer, options.answer_weight)
    lesson = lesson_at(step / options.ramp_steps, window)
    while True:
        if recipe.kind == "dialogues":
            yield dialogue_document(dialogue(random), tokenizer)
        else:
            yield texts.document(text(random, lesson, options.context, texts))


def batch_at(recipe: Recipe, tokenizer: MistralTokenizer, step: int, window: int) -> Batch:
    """The batch of one step: a function of the recipe and the step alone."""
    drawn = documents(recipe, tokenizer, step, window)
    return pack(drawn, recipe.training.rows, recipe.training.context, window)


def held_out_batches(
    recipe: Recipe, tokenizer: MistralTokenizer, window: int, rows: int = 16
) -> list[Batch]:
    """Batches of held-out texts for the loss: every shape of story, or dialogues.

    >>> from mistral_edu.tokenizer import MistralTokenizer
    >>> from mistral_edu.training.world import stories
    >>> learned = MistralTokenizer.train((s.text for s in stories(0, count=50)), 400)
    >>> [batch.ids.shape for batch in held_out_batches(Recipe(), learned, 128, rows=8)]
    [torch.Size([4, 1024]), torch.Size([4, 1024])]
    """
    options = recipe.training
    texts = Texts(tokenizer, options.answer_weight)
    if recipe.kind == "dialogues":
        random = Random(f"held out {recipe.seed}")
        drawn = (dialogue_document(dialogue(random, "test"), tokenizer) for _ in count())
    else:
        drawn = (texts.document(story.text) for story in stories(recipe.seed, split="test"))
    size = options.rows
    return [pack(drawn, size, options.context, window) for _ in range(max(1, rows // size))]
