"""Scenery: sentences about the valley that no question asks about, as many as one likes.

They stand between a fact and its question and put distance there (`recall.py`).
Lesson: 15_long_context.
"""

from random import Random

from mistral_edu.training import vocabulary as words

_SIGNS = tuple(sign for sky in words.SKIES for sign in sky.signs)
_MOTIONS = ("walked past", "looked at", "ran around", "stood before", "came from", "went to")
_SOUNDS = ("sang", "whistled", "laughed", "danced", "rested", "waited", "slept")
_WHO = ("Somebody", "Nobody", "A child", "A stranger", "An old man", "A young woman", "A traveller")
_HOURS = ("At sunrise", "In the morning", "At noon", "In the afternoon", "In the evening")


def sentence(random: Random) -> str:
    """One sentence of scenery.

    >>> sentence(Random(5))
    'A young woman laughed on the hill.'
    """
    place = random.choice(words.PLACES)
    match random.randrange(5):
        case 0:
            return random.choice(_SIGNS)
        case 1:
            animal = words.an(random.choice(words.ANIMALS))
            motion = random.choice(_MOTIONS)
            return f"{random.choice(_HOURS)} {animal} {motion} {place.name}."
        case 2:
            return f"{random.choice(_WHO)} {random.choice(_SOUNDS)} {place.at}."
        case 3:
            return f"{random.choice(_HOURS)} one could see {place.sight}."
        case _:
            who, motion = random.choice(_WHO), random.choice(_MOTIONS)
            return f"{who} {motion} {place.name}."
