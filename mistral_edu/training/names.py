"""The names of the valley: 64 people in 8 households, and 16 villages.

    every eighth name  ->  one household

A model that knows every name by heart can still not know who owns the lamp: there are 2,016 pairs
of names, and the held-out texts use pairs that training never shows. In training, no two people of
a text are of one household; in the held-out texts, all of them are.
Lesson: 10_heads_and_training.
"""

from random import Random

WOMEN = (
    "Mireille", "Zoé", "Clarisse", "Estelle", "Aurélie", "Solange", "Florine", "Nadine",
    "Bérengère", "Céleste", "Daufine", "Élise", "Galatée", "Perrine", "Vivette", "Rose",
    "Magali", "Yvonne", "Juliette", "Hélène", "Thérèse", "Inès", "Odile", "Lucie",
    "Kathel", "Noémie", "Quitterie", "Sabine", "Ursule", "Agathe", "Blanche", "Diane",
)  # fmt: skip
MEN = (
    "Honoré", "Gaspard", "Frédéric", "Aubin", "Peire", "Marius", "Raphaël", "Benoît",
    "Ostian", "Tibère", "Étienne", "Guilhem", "Lorenç", "Sauvaire", "Jòrdi", "Théodore",
    "Valentin", "Xavier", "Yves", "Zacharie", "Norbert", "Hugo", "Jacques", "Kilian",
    "Léon", "Octave", "Pascal", "Romain", "Simon", "Ulysse", "Bastien", "Félix",
)  # fmt: skip
VILLAGES = (
    "Peyrelune", "Rocheclaire", "Fontmèze", "Aiguebelle", "Valcigale", "Montbrise", "Saint-Aure",
    "Castelvent", "Olivette", "Garrigas", "Lauzière", "Ventabren", "Éguilles", "Tarascou",
    "Brignan", "Mirabelle",
)  # fmt: skip
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
