"""The state under a text: who is there, what the weather is, and where every thing lies.

A tale draws a valley and moves things only through `put` and `take`. Each of them changes the state
and hands back the sentence that tells the change, so the text cannot disagree with the state.
Lesson 10 reads this beside `tales.py`.
"""

from dataclasses import dataclass, field
from random import Random

from mistral_edu.training import vocabulary as words
from mistral_edu.training.names import WOMEN, draw_names
from mistral_edu.training.vocabulary import Food, Person, Place, Sky, Thing


@dataclass(frozen=True)
class Question:
    """A question with its answer; `addends` are the numbers whose sum the answer is, if it is one.

    >>> Question("How many goats are there?", "5", addends=(8, -3)).addends
    (8, -3)
    >>> Question("On which day does Zoé come?", "Monday").kind
    'on'
    """

    ask: str
    answer: str
    addends: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """What is asked for: "sum", "number", or the question's first word ("who", "where", …)."""
        if self.addends:
            return "sum"
        return "number" if self.answer[0].isdigit() else self.ask.split()[0].lower()


@dataclass(frozen=True)
class Tale:
    """What a shape of text hands back: its paragraphs and everything one can ask about them."""

    paragraphs: tuple[str, ...]
    questions: tuple[Question, ...]


@dataclass
class Valley:
    """The state of the world during one text; `whereabouts` follows every thing that was mentioned.

    >>> valley = Valley.draw(Random("an example"))
    >>> thing, place = valley.things[0], valley.places[0]
    >>> sentence = valley.put("Zoé", thing, place.at)
    >>> valley.whereabouts[thing.noun] == place.at and place.at in sentence
    True
    """

    random: Random
    season: str
    day: str
    sky: Sky
    cast: list[Person]
    things: list[Thing]
    places: list[Place]
    foods: list[Food]
    whereabouts: dict[str, str] = field(default_factory=dict)
    signs_told: set[str] = field(default_factory=set)

    @classmethod
    def draw(cls, random: Random, split: str = "train") -> "Valley":
        """Draw a season, a day, its weather, its people, and the things, places and foods.

        Args:
            random: the stream to draw from.
            split: whose pairs of names the people are ("train" or "test").
        """
        season = random.choice(words.SEASONS)
        return cls(
            random,
            season,
            random.choice(words.DAYS),
            random.choice(skies_of(season)),
            draw_people(random, 4, split),
            draw_things(random, words.NOUNS, 4),
            random.sample(words.PLACES, 5),
            random.sample(words.FOODS, 3),
        )

    def pick(self, *options: str) -> str:
        """Choose one way of saying it."""
        return self.random.choice(options)

    def put(self, who: str, thing: Thing, at: str, verb: str = "", called: str = "") -> str:
        """Lay a thing, which may be `called` "it", somewhere, and tell it."""
        self.whereabouts[thing.noun] = at
        verb = verb or self.pick("put", "left", "laid")
        return capital(f"{who} {verb} {called or thing.the} {at}.")

    def take(self, person: Person, thing: Thing) -> str:
        """Give a thing into the hands of a person, and tell it."""
        self.whereabouts[thing.noun] = f"with {person.name}"
        return f"{person.name} took {thing.the}."

    def opening(self) -> str:
        """Tell the day and the weather, with one sign of it."""
        look = self.sky.look
        line = self.pick(
            f"It was {words.an(look)} {self.day} in {self.season}.",
            f"On {self.day} the weather was {look}.",
            f"It was {self.season}, and {self.day} was {words.an(look)} day.",
            f"The day was {look}, as it often is in {self.season}.",
        )
        return f"{line} {self.sign()}"

    def sign(self) -> str:
        """Tell one thing that people notice in this weather, and never the same twice."""
        sign = self.random.choice([sign for sign in self.sky.signs if sign not in self.signs_told])
        self.signs_told.add(sign)
        return sign


def capital(text: str) -> str:
    """Begin a sentence with a capital letter and leave the rest alone.

    >>> capital("the mistral blew past Zoé.")
    'The mistral blew past Zoé.'
    """
    return text[0].upper() + text[1:]


def skies_of(season: str) -> list[Sky]:
    """List the kinds of weather that a season knows.

    >>> [sky.look for sky in skies_of("summer")]
    ['sunny', 'windy', 'cloudy', 'stormy', 'hot']
    """
    return [sky for sky in words.SKIES if season in sky.seasons]


def draw_people(random: Random, count: int, split: str = "train") -> list[Person]:
    """Draw people with different names and different trades.

    >>> len({person.trade for person in draw_people(Random(1), 4)})
    4
    """
    names = draw_names(random, count, split)
    trades = random.sample(words.TRADES, count)
    return [Person(name, name in WOMEN, trade) for name, trade in zip(names, trades, strict=True)]


def draw_things(random: Random, nouns: tuple[str, ...], count: int) -> list[Thing]:
    """Draw things with different nouns and different looks.

    >>> len({thing.look for thing in draw_things(Random(1), words.NOUNS, 4)})
    4
    """
    looks = random.sample(words.LOOKS, count)
    chosen = random.sample(nouns, count)
    return [Thing(noun, look) for noun, look in zip(chosen, looks, strict=True)]
