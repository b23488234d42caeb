"""Drills: texts that practise one step of looking something up, and nothing else.

    chant: a b c d … again a b c d …                  the word after the one that stands here
    verses: a b c d e … then pieces: c d e. a b.      …wherever the piece begins
    pairs: Zoé soup. Léon figs. … Léon figs. …        what belongs to a key
    links: Zoé likes soup. … Zoé looks for soup. …    …with words between, other words later
    phrases: Zoé is in the barn. … Zoé is in the barn.  …and more than one token to say it
    statements, owners, questions: facts, and what they say   …in sentences

A small model shown only stories reads millions of tokens without once copying a name. Shown these
in this order, each until it is nearly without fault, it needs a few hundred steps for each: what
one drill builds (an induction head, for the first two) is what the next one needs.
Source: Olsson et al., "In-context Learning and Induction Heads" (arXiv 2209.11895) on the heads;
the order was found by trying. Lesson: 10_heads_and_training.

Conventions
    A drill is a list of pieces; a piece counts if whoever read the text up to it can know it.
    What is asked is drawn with replacement, so that "none of those already said" is no help.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from mistral_edu.training import vocabulary as words
from mistral_edu.training.facts import (
    A_THING,
    AT,
    INSTRUMENTS,
    LIKINGS,
    NUMBERS,
    RELATIONS,
    THE_THINGS,
    Relation,
    draw_facts,
)
from mistral_edu.training.names import MEN, VILLAGES, WOMEN

LISTS = (
    WOMEN + MEN, words.COLOURS, words.DAYS, LIKINGS, INSTRUMENTS, words.TRADES, words.ANIMALS,
    words.NOUNS, VILLAGES, words.PETS,
)  # fmt: skip
WORDS = tuple(dict.fromkeys(word for one in LISTS for word in one))
PHRASES = (AT, A_THING, THE_THINGS, NUMBERS)
LINKS = (
    "likes", "is", "has a", "lives in the", "was born in", "wears a hat that is", "plays the",
    "and the", "looks for", "with the", "said to the", "would like some", "is as good as a",
)  # fmt: skip
PHRASE_LINKS = ("", "is", "likes", "looks for", "thinks of", "and then", "speaks about")
SHORT_LINKS = ("", *LINKS[:2])


class Piece(NamedTuple):
    """Some words of a drill, and whether the text before tells them."""

    text: str
    counts: bool = False


Drill = Callable[[Random, str], list[Piece]]
NEWLINE = Piece("\n")
STOP = Piece(".")


def chant(random: Random, split: str) -> list[Piece]:
    """Eight to 24 words, said twice.

    >>> "".join("x" if piece.counts else "." for piece in chant(Random(2), "train"))
    '...........xxxxxxxx'
    """
    said = random.sample(WORDS, random.randint(8, 24))
    first, *others = said
    again = [Piece(first), *(Piece(word, counts=True) for word in others)]
    return [*map(Piece, said), NEWLINE, *again]


def verses(random: Random, split: str) -> list[Piece]:
    """Six to 20 words, then three to six pieces of the list, from anywhere."""
    said = random.sample(WORDS, random.randint(6, 20))
    pieces = [*map(Piece, said), NEWLINE]
    for _ in range(random.randint(3, 6)):
        start = random.randrange(len(said) - 1)
        first, *others = said[start : start + random.randint(2, 5)]
        pieces += [Piece(first), *(Piece(word, counts=True) for word in others), STOP]
    return pieces


def _pairs(
    random: Random, links: tuple[str, ...], phrases: tuple[tuple[str, ...], ...] = ()
) -> list[Piece]:
    count = random.randint(2, 6)
    keys, values = random.sample(LISTS, 2)
    values = random.choice(phrases) if phrases else values
    told = list(zip(random.sample(keys, count), random.sample(values, count), strict=True))
    first, second = (
        [Piece(link)] if link else [] for link in (random.choice(links), random.choice(links))
    )
    pieces = []
    for key, value in told:
        pieces += [Piece(key), *first, Piece(value), STOP]
    pieces.append(NEWLINE)
    for _ in range(count if second else 2 * count):
        key, value = random.choice(told)
        pieces += [Piece(key), *second, Piece(value, counts=True), STOP]
    return pieces


def pairs(random: Random, split: str) -> list[Piece]:
    """Two to six keys, each with its value right behind it; then some of them once more."""
    return _pairs(random, ("",))


def short_links(random: Random, split: str) -> list[Piece]:
    """Pairs with at most one word between key and value."""
    return _pairs(random, SHORT_LINKS)


def links(random: Random, split: str) -> list[Piece]:
    """Pairs with up to five words between key and value, the second time other words."""
    return _pairs(random, ("", *LINKS))


def phrases(random: Random, split: str) -> list[Piece]:
    """Pairs whose value is a place, a thing or a number, which take several tokens to say."""
    return _pairs(random, PHRASE_LINKS, PHRASES)


def _retold(random: Random, split: str, asked: str) -> list[Piece]:
    """One to four facts of a relation, then some of them in a sentence that tells `asked` last."""
    known = "k" if asked == "v" else "v"
    usable = [(r, tells) for r in RELATIONS if (tells := _telling_last(r, known, asked))]
    relation, tells = random.choice(usable)
    facts = draw_facts(random, relation, random.randint(1, 4), split)
    first, second = random.choice(relation.tell), random.choice(tells)
    pieces = [Piece(" ".join(fact.told(first) for fact in facts)), NEWLINE]
    for _ in facts:
        fact = random.choice(facts)
        before, after = fact.told(second.replace(f"{{{asked}}}", "@")).split("@")
        answer = Piece(fact.parts[asked], counts=True)
        pieces += [Piece(before.strip()), answer, Piece(after.strip())]
    return [piece for piece in pieces if piece.text]


def _telling_last(relation: Relation, known: str, asked: str) -> list[str]:
    """The sentences of a relation in which what is known comes before what is asked."""
    return [t for t in relation.tell if t.index(f"{{{known}}}") < t.index(f"{{{asked}}}")]


def statements(random: Random, split: str) -> list[Piece]:
    """Facts, then some of them in another kind of sentence; the values count."""
    return _retold(random, split, "v")


def owners(random: Random, split: str) -> list[Piece]:
    """Facts, then some of them in a sentence that begins with the value; the keys count."""
    return _retold(random, split, "k")


def questions(random: Random, split: str) -> list[Piece]:
    """One to four facts, and questions about some of them, three in ten about the key."""
    facts = draw_facts(random, random.choice(RELATIONS), random.randint(1, 4), split)
    pieces = [Piece(" ".join(fact.sentence for fact in facts)), NEWLINE, NEWLINE]
    for _ in range(random.randint(1, len(facts))):
        fact = random.choice(facts)
        asked = fact.questions[-1 if random.random() < 0.3 else 0]
        pieces += [Piece(f"Question: {asked.ask}"), NEWLINE, Piece("Answer:")]
        pieces += [Piece(asked.answer, counts=True), Piece("\n", counts=True)]
    return pieces[:-1]


DRILLS: dict[str, Drill] = {
    "chant": chant,
    "verses": verses,
    "pairs": pairs,
    "short links": short_links,
    "links": links,
    "phrases": phrases,
    "statements": statements,
    "owners": owners,
    "questions": questions,
}
