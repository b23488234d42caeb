"""The shape of text that only states facts: notes, lists, gossip, and what people say.

    one to three relations, two to four facts of each  ->  sentences in some order  ->  questions

Lesson: 10_heads_and_training.
"""

from random import Random

from mistral_edu.training import scenery
from mistral_edu.training import vocabulary as words
from mistral_edu.training.facts import INSTRUMENTS, LIKINGS, HERDS, POOLS, RELATIONS, Fact, draw_facts
from mistral_edu.training.names import MEN, VILLAGES, WOMEN
from mistral_edu.training.valley import Question, Tale, Valley

_PAIRED = (
    WOMEN + MEN, words.COLOURS, words.DAYS, LIKINGS, INSTRUMENTS, words.TRADES, words.ANIMALS,
    words.NOUNS, VILLAGES, words.PETS,
)  # fmt: skip
_CHANTED = tuple(word for words_ in _PAIRED for word in words_)
FRAMES = ("plain", "plain", "list", "numbered", "said", "scenery")


def notes(valley: Valley) -> Tale:
    """Some facts about the people and things of the valley, in one of several frames."""
    random = valley.random
    names = tuple(person.name for person in valley.cast)
    facts: list[Fact] = []
    # Two relations with values of one kind would make questions such as "What is red?" ambiguous.
    chosen = {r.value: r for r in random.sample(RELATIONS, random.randint(1, 3))}
    for relation in chosen.values():
        facts += draw_facts(random, relation, random.randint(2, 4), names=names)
    random.shuffle(facts)
    questions = [random.choice(fact.questions) for fact in facts]
    return Tale(framed(random, [fact.sentence for fact in facts]), tuple(questions))


def brief(valley: Valley) -> Tale:
    """Two to four facts of one relation, each asked about: short enough for one or two windows."""
    random = valley.random
    names = tuple(person.name for person in valley.cast)
    facts = draw_facts(random, random.choice(RELATIONS), random.randint(2, 4), names=names)
    questions = [random.choice(fact.questions) for fact in facts]
    return Tale((" ".join(fact.sentence for fact in facts),), tuple(questions))


def retelling(valley: Valley) -> Tale:
    """Two to four facts, and questions that are answered by telling one of them again."""
    random = valley.random
    names = tuple(person.name for person in valley.cast)
    facts = draw_facts(random, random.choice(RELATIONS), random.randint(2, 4), names=names)
    asks = tuple(Question(f"Tell me about {fact.key}.", fact.sentence) for fact in facts)
    return Tale((" ".join(fact.sentence for fact in facts),), asks)


def echo(valley: Valley) -> Tale:
    """A list of things and people, which somebody says again: the plainest way to look back."""
    random = valley.random
    pools = [*POOLS.values(), tuple(person.name for person in valley.cast)]
    listed = ", ".join(random.choice(random.choice(pools)) for _ in range(random.randint(4, 9)))
    speaker = valley.cast[0].full
    again = Question(f"What did {valley.cast[0].name} say?", listed)
    return Tale((f"{speaker} said: {listed}",), (again,))


def chant(valley: Valley) -> Tale:
    """Eight to 24 words, said twice without a pause."""
    said = " ".join(valley.random.sample(_CHANTED, valley.random.randint(8, 24)))
    return Tale((f"{said}",), (Question("Again?", said),))


def pairs(valley: Valley) -> Tale:
    """Two to seven keys, each with its value right behind it; then the same in another order."""
    random = valley.random
    count = random.randint(2, 7)
    keys, values = random.sample(_PAIRED, 2)
    told = list(zip(random.sample(keys, count), random.sample(values, count), strict=True))
    again = random.sample(told, count)
    first, second = (", ".join(f"{key} {value}" for key, value in one) for one in (told, again))
    return Tale((first,), (Question("Again?", second),))


def framed(random: Random, sentences: list[str]) -> tuple[str, ...]:
    """Lay sentences out as a paragraph, a list, speech, or with scenery between.

    >>> framed(Random(5), ["It blows."])
    ('“It blows.” said the postman.',)
    """
    frame = random.choice(FRAMES)
    if frame == "list":
        return (f"Notes from {random.choice(VILLAGES)}:", *(f"- {s}" for s in sentences))
    if frame == "numbered":
        return tuple(f"{number}. {s}" for number, s in enumerate(sentences, start=1))
    if frame == "said":
        speaker = random.choice(("the old shepherd", "my aunt", "the postman", "the owl"))
        return (f"“{' '.join(sentences)}” said {speaker}.",)
    if frame == "scenery":
        return (" ".join(f"{scenery.sentence(random)} {s}" for s in sentences),)
    return (" ".join(sentences),)


def two_herds(valley: Valley) -> Tale:
    """Three people with some animals or trees each; a question adds two of the numbers."""
    random = valley.random
    herd = random.choice(HERDS)
    names = [person.name for person in valley.cast[:3]]
    numbers = [random.randint(2, 9) for _ in names]
    pairs = list(zip(names, numbers, strict=True))
    sentences = [f"{name} has {number} {herd}." for name, number in pairs]
    (a, n), (b, m) = random.sample(pairs, 2)
    sums = Question(f"How many {herd} do {a} and {b} have together?", str(n + m), addends=(n, m))
    asks = [Question(f"How many {herd} does {name} have?", str(number)) for name, number in pairs]
    return Tale(framed(random, sentences), (sums, *asks))
