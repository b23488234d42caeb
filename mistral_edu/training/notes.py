"""The shape of text that only states facts: notes, lists, gossip, and what people say.

    one to three relations, two to four facts of each  ->  sentences in some order  ->  questions

Lesson: 10_heads_and_training.
"""

from random import Random

from mistral_edu.training import scenery
from mistral_edu.training.facts import HERDS, RELATIONS, Fact, draw_facts
from mistral_edu.training.names import VILLAGES
from mistral_edu.training.valley import Question, Tale, Valley

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
