"""Facts: pairs that one sentence ties together, and the questions from either side.

    relation + key + value  ->  "Zoé lives in the barn."  ->  "Where does Zoé live?" "in the barn"
                                                          ->  "Who lives in the barn?" "Zoé"

Keys and values of one text are all different, so every question has one answer. Which value goes
with which key is drawn anew for each text: only reading it helps, knowing the valley does not.
Lesson: 15_long_context uses the same facts to ask how far back a model can look.
"""

from dataclasses import dataclass
from random import Random

from mistral_edu.training import vocabulary as words
from mistral_edu.training.names import VILLAGES, draw_names
from mistral_edu.training.valley import Question, capital

INSTRUMENTS = ("flute", "drum", "violin", "guitar", "trumpet", "harp", "piano", "tambourine")
LIKINGS = ("figs", "olives", "honey", "cheese", "almonds", "lemons", "pears", "soup", "bread",
           "nougat", "grapes", "melons", "walnuts", "garlic")  # fmt: skip
HERDS = ("goats", "hens", "sheep", "ducks", "beehives", "olive trees", "cats", "rose bushes")
NUMBERS = tuple(str(number) for number in range(2, 10))
AT = tuple(place.at for place in words.PLACES)
THE_THINGS = tuple(f"the {noun}" for noun in words.NOUNS)
A_THING = tuple(words.an(noun) for noun in words.NOUNS)
THE_ANIMALS = tuple(f"the {animal}" for animal in words.ANIMALS)
POOLS = {
    "at": AT, "the thing": THE_THINGS, "a thing": A_THING, "animal": THE_ANIMALS,
    "pet": words.PETS, "trade": words.TRADES, "colour": words.COLOURS, "day": words.DAYS,
    "liking": LIKINGS, "number": NUMBERS, "village": VILLAGES, "instrument": INSTRUMENTS,
}  # fmt: skip


@dataclass(frozen=True)
class Relation:
    """One way in which a key has a value.

    Args:
        name: what it is called here.
        key, value: "person", or a name in `POOLS`.
        tell: sentences with {k} and {v}.
        ask: questions about the value, with {k}.
        ask_key: questions about the key, with {v}; none if values may repeat.
    """

    name: str
    key: str
    value: str
    tell: tuple[str, ...]
    ask: tuple[str, ...]
    ask_key: tuple[str, ...] = ()


RELATIONS = (
    Relation("has", "person", "a thing",
             ("{k} has {v}.", "{k} owns {v}.", "{v} belongs to {k}."),
             ("What does {k} have?", "What belongs to {k}?"),
             ("Who has {v}?", "Who owns {v}?")),
    Relation("home", "person", "at",
             ("{k} lives {v}.", "The house of {k} is {v}.", "{v} lives {k}."),
             ("Where does {k} live?", "Where is the house of {k}?"),
             ("Who lives {v}?",)),
    Relation("trade", "person", "trade",
             ("{k} is the {v}.", "The {v} is called {k}.", "{k} works as the {v}."),
             ("What is the trade of {k}?", "What does {k} work as?"),
             ("Who is the {v}?", "What is the {v} called?")),
    Relation("likes", "person", "liking",
             ("{k} likes {v} best.", "{v}, that is what {k} loves.", "{k} would eat {v} all day."),
             ("What does {k} like best?", "What does {k} love to eat?"),
             ("Who likes {v} best?", "Who loves {v}?")),
    Relation("hat", "person", "colour",
             ("{k} wears a hat that is {v}.", "The hat of {k} is {v}.", "{v} is the hat of {k}."),
             ("What colour is the hat of {k}?",),
             ("Whose hat is {v}?",)),
    Relation("visit", "person", "day",
             ("{k} comes on {v}.", "On {v} {k} will come.", "{k} said: “I will come on {v}.”"),
             ("On which day does {k} come?", "When does {k} come?"),
             ("Who comes on {v}?",)),
    Relation("born", "person", "village",
             ("{k} was born in {v}.", "{k} comes from {v}.", "{v} is the village of {k}."),
             ("Where was {k} born?", "Which village does {k} come from?"),
             ("Who was born in {v}?", "Who comes from {v}?")),
    Relation("plays", "person", "instrument",
             ("{k} plays the {v}.", "The {v} is played by {k}."),
             ("What does {k} play?", "Which instrument does {k} play?"),
             ("Who plays the {v}?",)),
    Relation("lies", "the thing", "at",
             ("{k} lies {v}.", "{k} is {v}.", "{v} lies {k}.", "Somebody put {k} {v}."),
             ("Where is {k}?", "Where does {k} lie?"),
             ("What lies {v}?", "What is {v}?")),
    Relation("colour", "the thing", "colour",
             ("{k} is {v}.", "{k} was painted {v}."),
             ("What colour is {k}?",),
             ("What is {v}?", "What was painted {v}?")),
    Relation("pet", "animal", "pet",
             ("{k} is called {v}.", "The name of {k} is {v}.", "{v} is the name of {k}."),
             ("What is {k} called?", "What is the name of {k}?"),
             ("Who is called {v}?", "Whose name is {v}?")),
    Relation("far", "village", "number",
             ("It is {v} kilometres to {k}.", "{k} is {v} kilometres away.",
              "The road to {k} is {v} kilometres long."),
             ("How many kilometres is it to {k}?", "How far is it to {k}?")),
    Relation("herd", "person", "number",
             ("{k} has {v} {herd}.", "{v} {herd} belong to {k}.", "{k} counted {v} {herd}."),
             ("How many {herd} does {k} have?", "How many {herd} belong to {k}?")),
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """One sentence, and the questions it answers (value first, then key if there is one).

    `parts` are the words that fill the sentences of its relation: {k}, {v} and {herd}.
    """

    parts: dict[str, str]
    sentence: str
    questions: tuple[Question, ...]

    @property
    def key(self) -> str:
        """The person, thing, animal or village that the fact is about."""
        return self.parts["k"]

    def told(self, sentence: str) -> str:
        """Tell the fact by another sentence of its relation.

        >>> Fact({"k": "Zoé", "v": "soup"}, "", ()).told("{v} is what {k} likes.")
        'Soup is what Zoé likes.'
        """
        return capital(sentence.format(**self.parts))


def draw_facts(
    random: Random,
    relation: Relation,
    count: int,
    split: str = "train",
    names: tuple[str, ...] = (),
) -> list[Fact]:
    """Draw facts of one relation with different keys and different values.

    Args:
        random: the stream to draw from.
        relation: what ties key and value.
        count: how many, 1 to 6.
        split: whose pairs of names the people are.
        names: the people to use; drawn if empty.

    >>> [fact.sentence for fact in draw_facts(Random(0), RELATIONS[7], 1)]
    ['The flute is played by Solange.']
    """
    if relation.key == "person":
        keys = list(names[:count]) or draw_names(random, count, split)
    else:
        keys = random.sample(POOLS[relation.key], count)
    values = random.sample(POOLS[relation.value], count)
    herd = random.choice(HERDS)
    facts = []
    for key, value in zip(keys, values, strict=True):
        parts = {"k": key, "v": value, "herd": herd}
        asked = [Question(random.choice(relation.ask).format(**parts), value)]
        if relation.ask_key:
            asked.append(Question(random.choice(relation.ask_key).format(**parts), key))
        sentence = capital(random.choice(relation.tell).format(**parts))
        facts.append(Fact(parts, sentence, tuple(asked)))
    return facts
