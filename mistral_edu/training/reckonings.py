"""The shapes of text that count: market, small sum, recipe, weather diary, herd.

A number that a question is about is written in digits, so an answer is either in the text or the
sum of numbers that are (`Question.addends`).
"""

from mistral_edu.training import vocabulary as words
from mistral_edu.training.names import VILLAGES
from mistral_edu.training.valley import Question, Tale, Valley, capital, skies_of

DISHES = (
    ("soup", "pot", ("tomato", "tomatoes"), ("onion", "onions"), ("carrot", "carrots")),
    ("omelette", "pan", ("egg", "eggs"), ("mushroom", "mushrooms"), ("potato", "potatoes")),
    ("salad", "bowl", ("cucumber", "cucumbers"), ("olive", "olives"), ("radish", "radishes")),
    ("cake", "tin", ("egg", "eggs"), ("lemon", "lemons"), ("almond", "almonds")),
    ("fruit bowl", "dish", ("fig", "figs"), ("peach", "peaches"), ("apricot", "apricots")),
    (
        "stew",
        "pot",
        ("turnip", "turnips"),
        ("bean", "beans"),
        ("clove of garlic", "cloves of garlic"),
    ),
)
GOODS = (
    "olives",
    "figs",
    "walnuts",
    "lemons",
    "eggs",
    "candles",
    "snails",
    "stones",
    "feathers",
    "pears",
)

STALLS = ("under the plane tree", "near the fountain", "beside the old well", "at the crossroads")


def market(valley: Valley) -> Tale:
    """Somebody buys two things on a market day and pays the sum."""
    buyer, seller, third = valley.cast[:3]
    one, two, dear = valley.foods
    paid = one.price + two.price
    village, stall = valley.pick(*VILLAGES), valley.pick(*STALLS)
    paragraphs = (
        f"{valley.opening()} It was market day in {village}. {buyer.full} "
        f"{valley.pick('went there with a basket', 'took a bag along', 'was there early')}.",
        f"{seller.full} had a stall {stall}. “{capital(words.an(one.one))} is "
        f"{euros(one.price)},” {seller.he} said, “{words.an(two.one)} is {euros(two.price)}, and "
        f"{words.an(dear.one)} is {euros(dear.price)}.”",
        f"{buyer.name} bought {words.an(one.one)} and {words.an(two.one)}. "
        f"{valley.pick('That was enough.', f'It was all that {buyer.he} needed.')} "
        f"{capital(buyer.he)} counted the coins and paid. {valley.sign()}",
        f"On the way home {buyer.he} met {third.full} and gave {third.him} "
        f"{words.an(one.one)}. “{valley.pick('How kind', 'Thank you', 'What a good day')}!” "
        f"said {third.name}.",
    )
    return Tale(
        paragraphs,
        (
            Question(
                f"How many euros did {buyer.name} pay?", str(paid), addends=(one.price, two.price)
            ),
            Question("Who sold the food?", seller.name),
            Question(f"What did {buyer.name} give to {third.name}?", words.an(one.one)),
            Question("In which village was the market?", village),
            Question("Where was the stall?", stall),
        ),
    )


def euros(price: int) -> str:
    """Name a price.

    >>> euros(1), euros(7)
    ('1 euro', '7 euros')
    """
    return f"{price} euro" if price == 1 else f"{price} euros"


def small_sum(valley: Valley) -> Tale:
    """Somebody has some, gets more, gives some away; the question is how many are left."""
    owner, giver, taker = valley.cast[:3]
    had, gained = valley.random.randint(3, 9), valley.random.randint(1, 6)
    lost = valley.random.randint(2, had - 1)
    goods = valley.pick(*GOODS)
    basket = words.an(f"{valley.pick(*words.COLOURS)} {valley.pick('basket', 'bag', 'box')}")
    paragraphs = (
        f"{valley.opening()} {owner.full} had {had} {goods} in {basket}. {capital(owner.he)} was "
        f"{valley.pick('sitting', 'resting', 'waiting')} {valley.places[0].at}.",
        f"{capital(valley.pick(*words.HOURS))} {giver.full} came by and gave {owner.him} "
        f"{gained} more. “{valley.pick('You have few', 'I have too many', 'These are for you')},” "
        f"said {giver.name}. {owner.name} {valley.pick('thanked', 'hugged')} {giver.him}.",
        f"Later {owner.he} met {taker.full} {valley.places[1].at}. {taker.name} was "
        f"{valley.pick('hungry', 'sad', 'alone', 'tired')}. {owner.name} gave {taker.him} {lost} "
        f"{goods}. {valley.sign()} {owner.name} went home and counted what was left.",
    )
    return Tale(
        paragraphs,
        (
            Question(
                f"How many {goods} did {owner.name} have in the end?",
                str(had + gained - lost),
                addends=(had, gained, -lost),
            ),
            Question(f"How many {goods} did {owner.name} have at first?", str(had)),
            Question(f"Who gave {goods} to {owner.name}?", giver.name),
            Question(f"Where did {owner.name} meet {taker.name}?", valley.places[1].at),
        ),
    )


def recipe(valley: Valley) -> Tale:
    """A list of what one needs, then the steps in their order."""
    cook, guest = valley.cast[:2]
    dish, vessel, *needs = valley.random.choice(DISHES)
    needs = valley.random.sample(needs, 3)
    numbers = valley.random.sample(range(1, 10), 3)
    herb = valley.pick("thyme", "rosemary", "basil", "mint", "lavender")
    lines = [f"- {n} {need[n > 1]}" for n, need in zip(numbers, needs, strict=True)]
    one, two, three = (need[n > 1] for n, need in zip(numbers, needs, strict=True))
    paragraphs = (
        f"The {dish} of {cook.full}",
        "You need:\n" + "\n".join([*lines, f"- a little {herb}"]),
        f"First wash the {one} and put {'it' if numbers[0] == 1 else 'them'} in a large {vessel}. "
        f"Then add the {two}. {valley.pick('Stir slowly', 'Mix well', 'Taste it')}. "
        f"After that add the {three}. At the end add the {herb} and "
        f"{valley.pick('a pinch of salt', 'a spoon of honey')}. "
        f"Wait for {valley.random.randint(2, 6) * 10} minutes.",
        f"{cook.name} makes this {dish} {valley.pick('when', 'on days when')} "
        f"the weather is {valley.sky.look}. "
        f"{guest.full} {valley.pick('loves it', 'always asks for more', 'learned it by heart')} "
        f"and eats it {valley.pick('with bread', 'with cheese', 'by the fire', 'in the garden')}.",
    )
    return Tale(
        paragraphs,
        (
            Question(f"How many {needs[0][1]} do you need?", str(numbers[0])),
            Question(f"How many {needs[2][1]} do you need?", str(numbers[2])),
            Question("What do you add after the " + one + "?", f"the {two}"),
            Question("Which herb do you need?", herb),
            Question(f"Whose {dish} is it?", cook.name),
        ),
    )


def diary(valley: Valley) -> Tale:
    """Four days of weather, one line and one event for each."""
    writer, *others = valley.cast
    first = words.DAYS.index(valley.day)
    days = [words.DAYS[(first + step) % 7] for step in range(4)]
    skies = valley.random.sample(skies_of(valley.season), 4)
    low, high = words.DEGREES[valley.season]
    temperatures = sorted(valley.random.sample(range(low, high + 1), 4))
    warmth = sorted(skies, key=lambda sky: sky.warmth)
    degrees = [temperatures[warmth.index(sky)] for sky in skies]
    thing, place = valley.things[0], valley.places[0]
    events = [
        f"{others[0].full} came to see me.",
        valley.put("I", thing, place.at),
        f"I {valley.pick('baked', 'bought')} {words.an(valley.foods[0].one)} for {others[1].name}.",
        f"{others[2].full} {valley.pick('sang', 'danced', 'told stories')} {valley.places[1].at}.",
    ]
    valley.random.shuffle(events)
    entries = [
        f"{day}: {sky.look}, {celsius} {'degree' if celsius == 1 else 'degrees'}. "
        f"{valley.random.choice(sky.signs)} {event}"
        for day, sky, celsius, event in zip(days, skies, degrees, events, strict=True)
    ]
    warmest = days[degrees.index(max(degrees))]
    asked = valley.random.randrange(4)
    return Tale(
        (f"The {valley.season} diary of {writer.full}", *entries),
        (
            Question(f"What was the weather like on {days[asked]}?", skies[asked].look),
            Question(f"Which day was {skies[asked].look}?", days[asked]),
            Question("Which day was the warmest?", warmest),
            Question(f"Where did {writer.name} put {thing.the}?", place.at),
            Question("Who wrote the diary?", writer.name),
        ),
    )


def herd(valley: Valley) -> Tale:
    """Three animals with their owners, their colours and the places where they sleep."""
    kinds = valley.random.sample(words.ANIMALS, 3)
    pets = valley.random.sample(words.PETS, 3)
    colours = valley.random.sample(("white", "black", "brown", "grey"), 3)
    homes, owners = valley.places[:3], valley.cast[:3]
    paragraphs = [
        f"There are three animals that everybody in {valley.pick(*VILLAGES)} knows. {valley.sign()}"
    ]
    for kind, pet, colour, home, owner in zip(kinds, pets, colours, homes, owners, strict=True):
        habit = valley.pick(
            "loves bread",
            "is afraid of thunder",
            "likes music",
            "runs very fast",
            "is always hungry",
        )
        paragraphs.append(
            f"{owner.full} has {words.an(kind)}. Its name is {pet}. It is {colour}, and it "
            f"{habit}. At night {pet} sleeps {home.at}."
        )
    paragraphs.append(
        f"When the mistral blows, {pets[0]} {valley.pick('hides', 'waits', 'plays')} with "
        f"{pets[1]}, and {pets[2]} {valley.pick('stays alone', 'looks at the sky', 'is noisy')}."
    )
    i = valley.random.randrange(3)
    return Tale(
        tuple(paragraphs),
        (
            Question(f"What is the name of the {kinds[i]}?", pets[i]),
            Question(f"Who has {words.an(kinds[i])}?", owners[i].name),
            Question(f"Where does {pets[i]} sleep?", homes[i].at),
            Question(f"What colour is {pets[i]}?", colours[i]),
            Question(f"What kind of animal is {pets[i]}?", words.an(kinds[i])),
        ),
    )
