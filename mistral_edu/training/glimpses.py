"""The shape of text that is over after three sentences: something found, given, lost, eaten.

    a glimpse is about fifty tokens long, so whoever writes its last word still sees its first

The longer shapes do not fit one window; a small model begins them well and loses who was there.
Lesson: 10_heads_and_training.

Conventions
    A glimpse is drawn by name only ("glimpse"), never by `stories`: what those tell is fixed by
    their seed.
"""

from collections.abc import Callable

from mistral_edu.training import vocabulary as words
from mistral_edu.training.valley import Question, Tale, Valley, capital

Plot = Callable[[Valley], tuple[tuple[str, ...], tuple[Question, ...]]]


def found(valley: Valley) -> tuple[tuple[str, ...], tuple[Question, ...]]:
    """Somebody finds a thing and takes it home."""
    a, thing, place = valley.cast[0], valley.things[0], valley.places[0]
    spot = valley.pick(*words.ROOM)
    return (
        f"{a.full} found {thing.a} {place.at}.",
        valley.put(a.name, thing, spot),
        valley.pick(f"{a.name} was happy.", f"“How {thing.look} it is!” said {a.name}."),
    ), (
        Question(f"What did {a.name} find?", thing.a),
        Question(f"Where did {a.name} find {thing.the}?", place.at),
        Question(f"Where is {thing.the} now?", spot),
    )


def given(valley: Valley) -> tuple[tuple[str, ...], tuple[Question, ...]]:
    """Somebody gives a thing away, and it is put somewhere."""
    (a, b), thing, place = valley.cast[:2], valley.things[0], valley.places[0]
    return (
        f"{a.name} gave {thing.a} to {b.name}.",
        f"“{valley.pick('Thank you', 'How kind', 'What a surprise')}, {a.name}!” said {b.name}.",
        valley.put(b.name, thing, place.at),
    ), (
        Question(f"Who gave {thing.the} to {b.name}?", a.name),
        Question(f"What did {a.name} give to {b.name}?", thing.a),
        Question(f"Where is {thing.the} now?", place.at),
    )


def lost(valley: Valley) -> tuple[tuple[str, ...], tuple[Question, ...]]:
    """Somebody looks for a thing, and somebody else has seen it."""
    (a, b), thing, place = valley.cast[:2], valley.things[0], valley.places[0]
    return (
        f"{a.name} {valley.pick('had lost', 'could not find')} {thing.a}.",
        f"“It is {place.at},” said {b.name}.",
        f"{a.name} ran to {place.name} and found {thing.the}.",
    ), (
        Question(f"Who had lost {thing.the}?", a.name),
        Question(f"Who knew where {thing.the} was?", b.name),
        Question(f"Where was {thing.the}?", place.at),
    )


def met(valley: Valley) -> tuple[tuple[str, ...], tuple[Question, ...]]:
    """Two people meet on the way."""
    (a, b), (here, there) = valley.cast[:2], valley.places[:2]
    return (
        f"{capital(valley.pick(*words.HOURS))} {a.name} met {b.full} {here.at}.",
        f"“Where are you going, {b.name}?” asked {a.name}.",
        f"“To {there.name},” said {b.name}.",
    ), (
        Question(f"Where did {a.name} meet {b.name}?", here.at),
        Question(f"Where was {b.name} going?", f"to {there.name}"),
        Question(f"Who was going to {there.name}?", b.name),
    )


def blown(valley: Valley) -> tuple[tuple[str, ...], tuple[Question, ...]]:
    """The mistral takes a thing, and somebody brings it back."""
    (a, b), place = valley.cast[:2], valley.places[0]
    noun = valley.pick(*words.LIGHT_NOUNS)
    return (
        f"The mistral took the {noun} of {a.name} and dropped it {place.at}.",
        f"“{valley.pick('Bad', 'Silly', 'Wild')} wind!” cried {a.name}.",
        f"{b.name} went to {place.name} and brought the {noun} back.",
    ), (
        Question(f"Whose {noun} did the wind take?", a.name),
        Question(f"Where did the mistral drop the {noun}?", place.at),
        Question(f"Who brought the {noun} back?", b.name),
    )


def bought(valley: Valley) -> tuple[tuple[str, ...], tuple[Question, ...]]:
    """Somebody buys something to eat."""
    (a, b), place, food = valley.cast[:2], valley.places[0], words.an(valley.foods[0].one)
    return (
        f"{a.name} bought {food} from {b.full}.",
        f"{a.name} sat down {place.at} and ate it.",
        valley.sign(),
    ), (
        Question(f"What did {a.name} buy?", food),
        Question(f"Who sold {food}?", b.name),
        Question(f"Where did {a.name} sit down?", place.at),
    )


def strayed(valley: Valley) -> tuple[tuple[str, ...], tuple[Question, ...]]:
    """An animal runs away and is found."""
    (a, b), place = valley.cast[:2], valley.places[0]
    animal, pet = valley.pick(*words.ANIMALS), valley.pick(*words.PETS)
    return (
        f"The {animal} of {a.name} is called {pet}.",
        f"{capital(valley.pick(*words.HOURS))} {pet} ran away and hid {place.at}.",
        f"{b.name} found {pet} there.",
    ), (
        Question(f"What is the {animal} of {a.name} called?", pet),
        Question(f"Where did {pet} hide?", place.at),
        Question(f"Who found {pet}?", b.name),
    )


def walked(valley: Valley) -> tuple[tuple[str, ...], tuple[Question, ...]]:
    """Somebody goes somewhere and sees something."""
    a, (place, other) = valley.cast[0], valley.places[:2]
    return (
        f"It was {words.an(valley.sky.look)} {valley.day}.",
        valley.sign(),
        f"{a.full} went to {place.name} and saw {place.sight}.",
        f"Then {a.name} went home by {other.name}.",
    ), (
        Question(f"Where did {a.name} see {place.sight}?", place.at),
        Question(f"What did {a.name} see at {place.name}?", place.sight),
        Question(f"Who went to {place.name}?", a.name),
    )


PLOTS: tuple[Plot, ...] = (found, given, lost, met, blown, bought, strayed, walked)


def glimpse(valley: Valley) -> Tale:
    """One of the plots, in one paragraph, sometimes after a sentence about the weather.

    >>> from random import Random
    >>> glimpse(Valley.draw(Random(3))).paragraphs[0].count(".") in range(1, 6)
    True
    """
    sentences, questions = valley.random.choice(PLOTS)(valley)
    before = [valley.sign()] if valley.random.random() < 0.3 else []
    return Tale((" ".join([*before, *sentences]),), questions)
