"""Two small labelled tasks: is a statement true of a text, and which weather does a text tell of?

    Zoé lives in the barn. Under the oak lives Hugo. ⏎⏎ Zoé lives under the oak.  ->  false
    A child sang on the hill. The birds flew low. Somebody slept in the barn.     ->  cloudy

A true statement repeats a fact; a false one gives its key the value of another fact of the text.
So the words are the same whichever it is, and only who goes with what decides. The weather is told
by single words, and counting them is enough.
Lesson: 10_heads_and_training.

Conventions
    Example number n of a stream is true if n is even, and its sky is SKIES[n mod 10]: labels are
    balanced whatever the seed. Held-out statements use pairs of names that training never shows;
    held-out weather uses texts that training never shows (`world.split_of`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mistral_edu.training import scenery
from mistral_edu.training.facts import RELATIONS, draw_facts
from mistral_edu.training.valley import capital
from mistral_edu.training.vocabulary import SKIES
from mistral_edu.training.world import split_of

PERSONAL = tuple(r for r in RELATIONS if r.key == "person" and "{herd}" not in r.tell[0])
SIGNS = frozenset(sign for sky in SKIES for sign in sky.signs)


@dataclass(frozen=True)
class Example:
    """A text and the number of its label in its task's `labels`."""

    text: str
    label: int


def statement_example(random: Random, number: int, split: str) -> Example:
    """Two or three facts about people, then a statement: label 1 if it is true of the text, else 0.

    >>> statement_example(Random(3), 1, "train").text.split("\\n\\n")
    ['Bastien likes nougat best. Figs, that is what Ulysse loves.', 'Bastien likes figs best.']
    """
    relation = random.choice(PERSONAL)
    facts = draw_facts(random, relation, random.randint(2, 3), split)
    told, other = random.sample(facts, 2)
    is_true = number % 2 == 0
    value = (told if is_true else other).questions[0].answer
    statement = capital(relation.tell[0].format(k=told.key, v=value))
    return Example(f"{' '.join(f.sentence for f in facts)}\n\n{statement}", int(is_true))


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

        >>> [example.label for example in TASKS["statement"].examples(0, 4)]
        [1, 0, 1, 0]
        """
        return [
            self.make(Random(f"{self.name} {split} {seed} {number}"), number, split)
            for number in range(count)
        ]


TASKS = {
    task.name: task
    for task in (
        Task("statement", ("false", "true"), statement_example),
        Task("sky", tuple(sky.look for sky in SKIES), sky_example),
    )
}
