"""Two small labelled tasks: which colour has somebody's hat, and which weather does a text tell of?

    Zoé wears a hat that is red. The hat of Hugo is blue. ⏎⏎ … the hat of Zoé? Answer:  ->  red
    A child sang on the hill. The birds flew low. Somebody slept in the barn.           ->  cloudy

Three hats and three colours stand in a text, so counting words leaves three answers; which is
right depends on who goes with what. The weather is told by single words: counting is enough.
Lesson: 10_heads_and_training.

Conventions
    Example number n of a stream has the label n mod the number of labels, so labels are balanced
    whatever the seed. Held-out hats are worn by pairs of names that training never shows;
    held-out weather uses texts that training never shows (`world.split_of`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mistral_edu.training import scenery
from mistral_edu.training.facts import RELATIONS
from mistral_edu.training.names import draw_names
from mistral_edu.training.valley import capital
from mistral_edu.training.vocabulary import COLOURS, SKIES
from mistral_edu.training.world import split_of

HATS = next(relation for relation in RELATIONS if relation.name == "hat")
SIGNS = frozenset(sign for sky in SKIES for sign in sky.signs)


@dataclass(frozen=True)
class Example:
    """A text and the number of its label in its task's `labels`."""

    text: str
    label: int


def hat_example(random: Random, number: int, split: str) -> Example:
    """Three people with a hat each, and a question about one hat; the label is its colour's number.

    >>> example = hat_example(Random(3), 1, "train")
    >>> example.text.endswith("Answer:"), COLOURS[example.label] in example.text.lower()
    (True, True)
    """
    label = number % len(COLOURS)
    others = [colour for colour in COLOURS if colour != COLOURS[label]]
    colours = [COLOURS[label], *random.sample(others, 2)]
    worn = list(zip(draw_names(random, 3, split), colours, strict=True))
    sentences = [
        capital(random.choice(HATS.tell).format(k=name, v=colour))
        for name, colour in random.sample(worn, len(worn))
    ]
    question = random.choice(HATS.ask).format(k=worn[0][0])
    return Example(f"{' '.join(sentences)}\n\nQuestion: {question}\nAnswer:", label)


def sky_example(random: Random, number: int, split: str) -> Example:
    """One sign of a weather among two or three sentences of scenery; the label is the sky's number.

    >>> example = sky_example(Random(0), 0, "train")
    >>> "The walls were warm and golden." in example.text, SKIES[example.label].look
    (True, 'sunny')
    """
    label = number % len(SKIES)
    while True:
        sentences = [random.choice(SKIES[label].signs)]
        wanted = random.randint(3, 4)
        while len(sentences) < wanted:
            # Scenery may tell the sign of any weather: leave those out.
            if (sentence := scenery.sentence(random)) not in SIGNS:
                sentences.append(sentence)
        text = " ".join(random.sample(sentences, len(sentences)))
        if split_of(text) == split:
            return Example(text, label)


@dataclass(frozen=True)
class Task:
    """A way to make examples.

    Args:
        name: what it is called in tables.
        labels: what each number of a label means.
        make: makes example number n from a random stream, for "train" or "test".
    """

    name: str
    labels: tuple[str, ...]
    make: Callable[[Random, int, str], Example]

    def examples(self, seed: int, count: int, split: str = "train") -> list[Example]:
        """Make examples, the same for the same seed.

        Args:
            seed: any integer.
            count: how many, 0 or more.
            split: "train" or "test".

        >>> [example.label for example in TASKS["hat"].examples(0, 4)]
        [0, 1, 2, 3]
        """
        return [
            self.make(Random(f"{self.name} {split} {seed} {number}"), number, split)
            for number in range(count)
        ]


TASKS = {
    task.name: task
    for task in (
        Task("hat", COLOURS, hat_example),
        Task("sky", tuple(sky.look for sky in SKIES), sky_example),
    )
}
