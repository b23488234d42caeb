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
from mistral_edu.training.drills import DRILLS
from mistral_edu.training.recall import recall_stream
from mistral_edu.training.recipe import Recipe, Stage
from mistral_edu.training.world import IN_PIECES, SHAPES, split_of, stories, tell

KINDS = {
    "stories": tuple(SHAPES),
    "notes": ("notes", "notes", "notes", "two herds"),
    "brief": ("brief",),
    "glimpses": ("glimpse",),
    "asides": IN_PIECES,
}
EVERY_KIND = (*DRILLS, *KINDS, "recall")


@dataclass(frozen=True)
class Lesson:
    """What is shown at one step.

    Args:
        shares: of each of `EVERY_KIND` among the documents.
        farthest: the largest distance between a fact and its question in recall, in tokens.
        begun: the kinds that begin with the begin token; all if empty.
        mention_weight: how much a word counts that names again what was named before.
    """

    shares: dict[str, float]
    farthest: int
    begun: tuple[str, ...] = ()
    mention_weight: float = 1.0


def lesson_at(step: int, stages: tuple[Stage, ...], begun: tuple[str, ...] = ()) -> Lesson:
    """The curriculum at one step: straight lines between its stages, the last one for ever.

    >>> stages = (Stage(0, 50, {"chant": 1.0}), Stage(10, 100, {"stories": 1.0}))
    >>> lesson_at(4, stages)
    Lesson(shares={'chant': 0.6, 'stories': 0.4}, farthest=70, begun=(), mention_weight=1.0)
    """
    after = next((place for place, stage in enumerate(stages) if stage.step > step), None)
    if after is None:
        return Lesson(stages[-1].shares, stages[-1].farthest, begun, stages[-1].mention_weight)
    first, last = stages[after - 1], stages[after]
    part = (step - first.step) / (last.step - first.step)

    def between(a: float, b: float) -> float:
        return a + part * (b - a)

    names = first.shares | last.shares
    shares = {n: between(first.shares.get(n, 0.0), last.shares.get(n, 0.0)) for n in names}
    farthest = int(between(first.farthest, last.farthest))
    return Lesson(shares, farthest, begun, between(first.mention_weight, last.mention_weight))


def shown(steps: int, stages: tuple[Stage, ...]) -> list[str]:
    """The kinds that the first so many steps draw from; a stage's begin right after the one before.

    >>> stages = (Stage(0, 50, {"chant": 1.0}), Stage(10, 100, {"stories": 1.0}))
    >>> shown(1, stages), shown(2, stages)
    (['chant'], ['chant', 'stories'])
    """
    before = (-1, *(stage.step for stage in stages[:-1]))
    begun = [stage for start, stage in zip(before, stages, strict=True) if steps - 1 > start]
    return list(dict.fromkeys(k for stage in begun for k, share in stage.shares.items() if share))


def still_unseen(recipe: Recipe, steps: int) -> str:
    """Why the held-out loss may rise while that of training falls: stories are not shown yet.

    >>> from dataclasses import replace
    >>> drills = replace(Recipe(), curriculum=(Stage(0, 50, {"chant": 1.0}),))
    >>> still_unseen(drills, 60), still_unseen(Recipe(), 60)
    (' (over whole stories; so far only chant was shown)', '')
    """
    kinds = shown(steps, recipe.curriculum)
    if not kinds or "stories" in kinds or recipe.start_from or recipe.kind == "dialogues":
        return ""
    were = "was" if len(kinds) == 1 else "were"
    return f" (over whole stories; so far only {', '.join(kinds)} {were} shown)"


def draw(random: Random, lesson: Lesson, context: int, texts: Texts) -> Document:
    """Draw one document of a lesson: a drill, a stream of recall, or a text with questions.

    >>> from mistral_edu.training.documents import Texts
    >>> class Letters:
    ...     eos_id = 2
    ...     def encode(self, text, bos=True, eos=False):
    ...         return [1] * bos + [ord(letter) for letter in text] + [2] * eos
    >>> drawn = draw(Random(0), Lesson({"brief": 1.0}, 100), 512, Texts(Letters(), 5.0))
    >>> max(drawn.weights)
    5.0
    """
    (kind,) = random.choices(list(lesson.shares), list(lesson.shares.values()))
    begun = not lesson.begun or kind in lesson.begun
    if kind in DRILLS:
        return texts.drill(DRILLS[kind](random, "train"), begun)
    if kind == "recall":
        length = min(lesson.farthest * random.randint(1, 3), context - lesson.farthest - 60)
        return texts.document(recall_stream(random, length, lesson.farthest, texts.measure), begun)
    while True:
        story = tell(random, KINDS[kind])
        if split_of(story.body) == "train":
            return texts.document(story.with_asides if kind == "asides" else story.text, begun)


def documents(recipe: Recipe, tokenizer: MistralTokenizer, step: int) -> Iterator[Document]:
    """Draw training documents of one step without end."""
    random = Random(f"{recipe.kind} {recipe.seed} {step}")
    options = recipe.training
    lesson = lesson_at(step, recipe.curriculum, recipe.begun)
    texts = Texts(tokenizer, options.answer_weight, lesson.mention_weight)
    while True:
        if recipe.kind == "dialogues":
            yield dialogue_document(dialogue(random), tokenizer)
        else:
            yield draw(random, lesson, options.context, texts)


def batch_at(recipe: Recipe, tokenizer: MistralTokenizer, step: int, window: int) -> Batch:
    """The batch of one step: a function of the recipe and the step alone."""
    drawn = documents(recipe, tokenizer, step)
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
