"""The names of the valley: 256 people in 32 households, and 24 villages, put together from parts.

    stem + ending  ->  name;     every eighth name  ->  one household

A model that knows a name by heart can still not know who owns the lamp: there are 32,640 pairs of
names, and the held-out texts use pairs that training never shows. In training, no two people of a
text are of one household; in the held-out texts, all of them are.
Lesson: 10_heads_and_training.
"""

from random import Random

_WOMEN_STEMS = (
    "Mir", "Ros", "Vivi", "Clar", "Magal", "Estel", "Auré", "Sol", "Flor", "Nad", "Béren", "Cél",
    "Dauf", "Élis", "Gali", "Perr",
)  # fmt: skip
_WOMEN_ENDINGS = ("eille", "ette", "ane", "ine", "onde", "aïs", "elle", "ourne")
_MEN_STEMS = (
    "Hon", "Gasp", "Fréd", "Aub", "Peir", "Mar", "Raph", "Ben", "Ost", "Tib", "Ét", "Guil", "Lor",
    "Sauv", "Jòr", "Théo",
)  # fmt: skip
_MEN_ENDINGS = ("oré", "ard", "éric", "in", "ius", "aël", "ot", "ian")
WOMEN = tuple(stem + ending for stem in _WOMEN_STEMS for ending in _WOMEN_ENDINGS)
MEN = tuple(stem + ending for stem in _MEN_STEMS for ending in _MEN_ENDINGS)
VILLAGES = tuple(
    first + second
    for first in ("Peyre", "Roche", "Font-", "Aigue", "Val", "Saint-")
    for second in ("lune", "claire", "rosée", "mèze")
)
HOUSEHOLD_SIZE = 8


def _households() -> tuple[tuple[str, ...], ...]:
    names = Random("households").sample(WOMEN + MEN, len(WOMEN + MEN))
    starts = range(0, len(names), HOUSEHOLD_SIZE)
    return tuple(tuple(names[start : start + HOUSEHOLD_SIZE]) for start in starts)


HOUSEHOLDS = _households()


def draw_names(random: Random, count: int, split: str = "train") -> list[str]:
    """Draw different names: all of one household for "test", all of different ones for "train".

    Args:
        random: the stream to draw from.
        count: how many, 0 to 8.
        split: "train" or "test".

    >>> len(set(draw_names(Random(1), 4)))
    4
    >>> names = set(draw_names(Random(1), 4, "test"))
    >>> any(names <= set(household) for household in HOUSEHOLDS)
    True
    """
    if split == "test":
        return random.sample(random.choice(HOUSEHOLDS), count)
    return [random.choice(household) for household in random.sample(HOUSEHOLDS, count)]
