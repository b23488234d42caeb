"""The words of the toy world: a small valley in Provence where the mistral blows.

Every noun carries what a sentence needs to be grammatical: a person knows the pronouns, a place
knows its preposition ("under the plane tree"), food knows its plural and its price, a sky knows its
seasons. Lesson 10 trains a model on texts made of these words. Names keep their accents, and rare
emoji are left to byte fallback (lesson 01).

Conventions: nouns are in lower case, places with their article; `an` is the only piece of grammar
that looks at spelling.
"""

from dataclasses import dataclass

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SEASONS = ("spring", "summer", "autumn", "winter")
HOURS = ("at sunrise", "in the morning", "at noon", "in the afternoon", "in the evening")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "white", "brown", "grey", "orange")
TRADES = (
    "baker", "potter", "shepherd", "miller", "beekeeper", "teacher", "gardener", "carpenter",
    "weaver", "doctor", "cook", "musician", "painter", "blacksmith",
)  # fmt: skip
EMOJI = ("🌬️", "☀️", "🌿", "🐐", "🫒", "🍯", "🐝", "🌻", "🏡", "🎶", "🥖", "🧀")
PETS = (
    "Brise", "Étoile", "Réglisse", "Pépin", "Noisette", "Câline", "Nuage", "Thym", "Poivre",
    "Lune",
)  # fmt: skip
ANIMALS = ("goat", "donkey", "dog", "cat", "sheep", "hen", "horse", "duck", "owl")


def an(phrase: str) -> str:
    """Put "a" or "an" in front of a phrase; right for every word of this vocabulary.

    >>> an("red lamp"), an("old key")
    ('a red lamp', 'an old key')
    """
    return f"an {phrase}" if phrase[0].lower() in "aeiou" else f"a {phrase}"


@dataclass(frozen=True)
class Person:
    """Somebody of the valley: a name, a trade, and the pronouns.

    >>> honoré = Person("Honoré", is_woman=False, trade="miller")
    >>> honoré.full, honoré.he, honoré.him, honoré.his
    ('Honoré the miller', 'he', 'him', 'his')
    """

    name: str
    is_woman: bool
    trade: str

    @property
    def full(self) -> str:
        return f"{self.name} the {self.trade}"

    @property
    def he(self) -> str:
        return "she" if self.is_woman else "he"

    @property
    def him(self) -> str:
        return "her" if self.is_woman else "him"

    @property
    def his(self) -> str:
        return "her" if self.is_woman else "his"


@dataclass(frozen=True)
class Place:
    """A place: its name, where a thing lies when it is there, and what can be seen there.

    >>> PLACES[0].name, PLACES[0].at
    ('the old well', 'beside the old well')
    """

    name: str
    at: str
    sight: str


PLACES = tuple(
    Place(f"the {noun}", f"{preposition} the {noun}", sight)
    for preposition, noun, sight in (
        ("beside", "old well", "a sleeping cat"),
        ("under", "plane tree", "two men playing cards"),
        ("on", "stone bridge", "a grey heron"),
        ("in", "olive grove", "a long ladder"),
        ("behind", "windmill", "a broken wheel"),
        ("near", "fountain", "a thirsty dog"),
        ("in", "chapel", "a small candle"),
        ("beside", "bread oven", "a heap of dry wood"),
        ("in", "vineyard", "a black snail"),
        ("under", "bell tower", "a pair of white doves"),
        ("in", "lavender field", "a cloud of bees"),
        ("at", "school gate", "a boy with a drum"),
        ("in", "barn", "a nest of swallows"),
        ("on", "castle wall", "a green lizard"),
        ("beside", "river", "a silver fish"),
        ("in", "market square", "a girl selling soap"),
        ("in", "pine wood", "a red squirrel"),
        ("at", "crossroads", "a wooden cart"),
        ("behind", "sheepfold", "a sleepy lamb"),
        ("near", "waterfall", "a wet stone"),
        ("on", "roof", "a proud cock"),
        ("in", "orchard", "a basket of pears"),
        ("under", "oak", "a fat acorn"),
        ("beside", "post office", "a yellow bicycle"),
        ("in", "smithy", "a glowing horseshoe"),
        ("near", "mill pond", "three ducks"),
        ("behind", "town hall", "a faded flag"),
        ("in", "garden", "a blue butterfly"),
        ("at", "ford", "a lost shoe"),
        ("under", "arch", "an old beggar"),
        ("in", "quarry", "a shining crystal"),
        ("on", "terrace", "a pot of basil"),
        ("beside", "tower", "a row of cypress trees"),
        ("in", "cellar", "a large barrel"),
        ("near", "station", "an empty bench"),
        ("in", "attic", "a dusty chest"),
        ("in", "bakery", "a tray of warm bread"),
        ("beside", "beehives", "a straw hat on a stick"),
        ("in", "cave", "a row of old bottles"),
        ("on", "hill", "a shepherd with a flute"),
    )
)
ROOM = ("on the table", "on the shelf", "under the bed", "behind the door", "beside the window",
        "in the cupboard", "near the fireplace", "on the stairs")  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """Something that can be carried, with the one word that describes it.

    >>> lamp = Thing("lamp", "orange")
    >>> lamp.a, lamp.the
    ('an orange lamp', 'the orange lamp')
    """

    noun: str
    look: str

    @property
    def a(self) -> str:
        return an(f"{self.look} {self.noun}")

    @property
    def the(self) -> str:
        return f"the {self.look} {self.noun}"


LOOKS = (*COLOURS, "old", "new", "small", "round", "heavy", "pretty", "tiny", "broken", "shiny",
         "dusty", "painted", "strange", "precious", "light")  # fmt: skip
NOUNS = (
    "lamp", "key", "basket", "bell", "jug", "knife", "cup", "book", "box", "flute", "mirror",
    "bottle", "candle", "spoon", "clock", "drum", "coin", "ring", "hammer", "lantern", "ladder",
    "rope", "plate", "brush", "comb", "chair", "barrel", "whistle", "pipe", "violin", "necklace",
    "pan", "broom", "saw", "needle", "pillow", "blanket", "purse", "stamp", "marble", "puppet",
)  # fmt: skip
LIGHT_NOUNS = (
    "hat", "scarf", "kite", "letter", "sock", "cap", "towel", "banner", "veil", "ribbon", "glove",
    "map", "feather", "handkerchief", "shirt", "apron",
)  # fmt: skip


@dataclass(frozen=True)
class Food:
    """Something to eat, in the singular and the plural, with its price in euros."""

    one: str
    many: str
    price: int


FOODS = tuple(
    Food(one, many, price)
    for one, many, price in (
        ("loaf of bread", "loaves of bread", 2),
        ("jar of honey", "jars of honey", 7),
        ("goat cheese", "goat cheeses", 4),
        ("almond cake", "almond cakes", 9),
        ("basket of figs", "baskets of figs", 3),
        ("bag of almonds", "bags of almonds", 6),
        ("biscuit", "biscuits", 1),
        ("pot of jam", "pots of jam", 5),
        ("bowl of olives", "bowls of olives", 3),
        ("sausage", "sausages", 8),
        ("apple tart", "apple tarts", 6),
        ("bar of nougat", "bars of nougat", 4),
    )
)


def counted(number: int, one: str, many: str) -> str:
    """Say how many: the number in words up to twelve, and the noun that agrees with it.

    >>> counted(1, "loaf", "loaves"), counted(3, "loaf", "loaves"), counted(15, "loaf", "loaves")
    ('one loaf', 'three loaves', '15 loaves')
    """
    word = NUMBERS[number] if number < len(NUMBERS) else str(number)
    return f"{word} {one if number == 1 else many}"


@dataclass(frozen=True)
class Sky:
    """A kind of weather: how warm beside the others, in which seasons, and what people notice."""

    look: str
    warmth: int
    seasons: tuple[str, ...]
    reason: str
    signs: tuple[str, ...]


SKIES = (
    Sky("sunny", 8, SEASONS, "the sun was bright",
        ("The sun shone on the roofs.", "The walls were warm and golden.",
         "There was no cloud at all.")),
    Sky("windy", 4, SEASONS, "the wind was strong",
        ("The mistral shook the shutters.", "The mistral bent the cypress trees.",
         "The wind sang in the chimney.", "Dust danced along the road.")),
    Sky("cloudy", 5, SEASONS, "the sky was dark",
        ("Low clouds hid the mountain.", "The light was soft and grey.", "The birds flew low.")),
    Sky("rainy", 3, ("spring", "autumn", "winter"), "the rain was cold",
        ("Rain ran down the windows.", "The paths were full of mud.",
         "Drops fell from the leaves.")),
    Sky("foggy", 2, ("spring", "autumn", "winter"), "the fog was thick",
        ("Fog covered the whole valley.", "Nobody could see the tower.",
         "The bells sounded far away.")),
    Sky("stormy", 6, ("spring", "summer", "autumn"), "a storm was near",
        ("Thunder rolled behind the hills.", "Lightning lit the valley.",
         "The dogs hid under the beds.")),
    Sky("hot", 9, ("summer",), "the day was too hot",
        ("The cicadas sang without a rest.", "Even the lizards looked for shade.",
         "The stones burned.")),
    Sky("snowy", 0, ("winter",), "the snow was deep",
        ("Snow lay on every roof.", "The children threw snowballs.",
         "The valley was quiet and white.")),
    Sky("frosty", 1, ("winter",), "the ground was hard",
        ("The fountain was frozen.", "Smoke rose from every house.",
         "The grass was white with frost.")),
    Sky("mild", 7, ("spring", "autumn"), "the air was sweet",
        ("The air smelled of thyme.", "Bees were busy in the rosemary.",
         "The windows stood open.")),
)  # fmt: skip
DEGREES = {"spring": (10, 20), "summer": (22, 35), "autumn": (8, 19), "winter": (0, 9)}
