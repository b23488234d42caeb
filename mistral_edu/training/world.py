"""The toy world: an endless supply of short, true texts about a valley where the mistral blows.

    seed, split, number  ->  random stream  ->  valley (state)  ->  tale (sentences)  ->  story

Every text ends with questions whose answers follow from it, so a trained model can be marked.
Lesson 10 trains on these texts; lesson 15 asks how far back a fact can lie.

Conventions: the random stream is seeded with a string, so texts are the same in every process and
on every machine. Training and held-out texts share no pair of names (`names.py`), and a checksum
of the text decides which of the two may tell it, so no text is ever in both, whatever the seeds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from itertools import islice
from random import Random
from zlib import crc32

from mistral_edu.training import glimpses, notes, reckonings, tales
from mistral_edu.training.valley import Question, Tale, Valley
from mistral_edu.training.vocabulary import EMOJI

SPLITS = ("train", "test")
EMOJI_RATE = 0.2
SHAPES: dict[str, Callable[[Valley], Tale]] = {
    "walk": tales.walk,
    "letter": tales.letter,
    "dialogue": tales.dialogue,
    "search": tales.search,
    "storm": tales.storm,
    "visit": tales.visit,
    "market": reckonings.market,
    "sum": reckonings.small_sum,
    "recipe": reckonings.recipe,
    "diary": reckonings.diary,
    "herd": reckonings.herd,
    "brief": notes.brief,
    "notes": notes.notes,
    "two herds": notes.two_herds,
}
BY_NAME_ONLY = {"glimpse": glimpses.glimpse}
# Which day of a diary was the warmest is not known before all of them are told.
IN_PIECES = tuple(shape for shape in SHAPES if shape != "diary")


@dataclass(frozen=True)
class Story:
    """One text with the state it was told from.

    `body` is the text without its questions, which are in random order; `whereabouts` maps every
    thing that was moved to where it is at the end, a place ("under the plane tree") or a person
    ("with Zoé").

    >>> story = next(stories(0))
    >>> story.text.startswith(story.prompt(story.questions[0]) + " " + story.questions[0].answer)
    True
    """

    shape: str
    body: str
    questions: tuple[Question, ...]
    whereabouts: dict[str, str]

    def prompt(self, question: Question) -> str:
        """Ask a question after the body; what a model writes next is its answer."""
        return f"{self.body}\n\nQuestion: {question.ask}\nAnswer:"

    @property
    def pieces(self) -> list[tuple[str, tuple[Question, ...]]]:
        """The body in pieces, each with the questions whose answers it is the last to mention.

        A question with a sum comes last. So every answer is near its question.
        """
        pieces, said, waiting = [], [], list(self.questions)
        paragraphs = self.body.split("\n")
        for place, paragraph in enumerate(paragraphs):
            said.append(paragraph)
            later = "\n".join(paragraphs[place + 1 :]).lower()
            due = [q for q in waiting if not later or not (q.addends or q.answer.lower() in later)]
            waiting = [q for q in waiting if q not in due]
            if due or not later:
                pieces.append(("\n".join(said), tuple(due)))
                said = []
        return pieces

    @property
    def with_asides(self) -> str:
        """The story with every question asked as soon as its answer was last mentioned."""
        told = (f"{piece}\n\n{answered(asked)}\n\n" for piece, asked in self.pieces)
        return "".join(told).strip()

    @property
    def text(self) -> str:
        """The whole text: the body and every question with its answer."""
        return f"{self.body}\n\n{answered(self.questions)}"


def answered(questions: Iterable[Question]) -> str:
    """Questions with their answers, as they stand in a text.

    >>> answered([Question("Who sings?", "Zoé")])
    'Question: Who sings?\\nAnswer: Zoé'
    """
    return "\n".join(f"Question: {q.ask}\nAnswer: {q.answer}" for q in questions)


def stories(seed: int, *, split: str = "train", count: int | None = None) -> Iterator[Story]:
    """Tell stories, without end or `count` of them.

    Args:
        seed: any integer; the same seed tells the same stories in the same order.
        split: "train" or "test"; no body of one stream is ever in the other, whatever their seeds.
        count: how many stories, 0 or more; None for no end.

    Returns:
        An iterator of stories, made as they are asked for.

    Raises:
        ValueError: for a split or a count that does not exist.

    >>> list(stories(0, count=3)) == list(stories(0, count=3))
    True
    >>> next(stories(0)).text == next(stories(0, split="test")).text
    False
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {SPLITS}: choose one of them")
    if count is not None and count < 0:
        raise ValueError(f"count is {count}; expected 0 or more: leave it out for no end")
    told = (tell(Random(f"{split} {seed} {number}"), split=split) for number in count_from())
    return islice((story for story in told if split_of(story.body) == split), count)


def tell(random: Random, shapes: Sequence[str] = tuple(SHAPES), split: str = "train") -> Story:
    """Tell one story from a stream of random numbers.

    Args:
        random: the stream to draw from.
        shapes: names in `SHAPES` or `BY_NAME_ONLY` to choose from.
        split: whose pairs of names the people are.

    >>> tell(Random("again")) == tell(Random("again"))
    True
    """
    shape = random.choice(shapes)
    valley = Valley.draw(random, split)
    tale = (SHAPES | BY_NAME_ONLY)[shape](valley)
    paragraphs = list(tale.paragraphs)
    if random.random() < EMOJI_RATE:
        paragraphs[-1] += f" {random.choice(EMOJI)}"
    questions = tuple(random.sample(tale.questions, len(tale.questions)))
    return Story(shape, "\n".join(paragraphs), questions, valley.whereabouts)


def split_of(text: str) -> str:
    """Say which stream may tell a text: "test" for about one text in eight.

    >>> split_of("The mistral blew.") in SPLITS
    True
    """
    return SPLITS[crc32(text.encode()) % 8 == 0]


def corpus_text(seed: int, count: int, *, split: str = "train") -> str:
    """Join the texts of `count` stories, a rule of three stars between them.

    Args:
        seed, split: as for `stories`.
        count: how many stories, 0 or more.

    Returns:
        One string; "" for no stories.

    >>> corpus_text(0, 2).count("***")
    1
    """
    return "\n\n***\n\n".join(story.text for story in stories(seed, split=split, count=count))
