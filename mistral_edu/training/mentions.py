"""Mentions: where a text names again what it has named before.

    Zoé met Léon. Zoé said to Léon: …        →        the second Zoé, the second Léon

Whoever wrote the text had to remember these words; a model that writes one has to look back for
them. They are few, so their share of the loss is small unless each counts more.
Lesson: 10_heads_and_training.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from mistral_edu.training import vocabulary as words
from mistral_edu.training.names import MEN, VILLAGES, WOMEN

NAMING = (
    *WOMEN, *MEN, *VILLAGES, *words.NOUNS, *words.LIGHT_NOUNS, *words.PETS, *words.LOOKS,
    *words.TRADES, *words.ANIMALS,
)  # fmt: skip


@runtime_checkable
class Encoder(Protocol):
    """What this module needs of a tokenizer."""

    def encode(self, text: str, bos: bool = True) -> list[int]: ...


class Mentions:
    """Finds the words that name somebody or something, as a tokenizer spells them.

    Args:
        tokenizer: spells a word in two ways, with a space in front and at the beginning of a line.

    >>> class Letters:
    ...     def encode(self, text, bos=True):
    ...         return [ord(letter) for letter in text if letter != " "]
    >>> list(Mentions(Letters()).again(Letters().encode("Zoé, the cat and Zoé")))
    [(13, 16)]
    """

    def __init__(self, tokenizer: Encoder) -> None:
        self.spellings = defaultdict[int, list[tuple[tuple[int, ...], str]]](list)
        newline = tokenizer.encode("\n", bos=False)[-1]
        for word in NAMING:
            line = tokenizer.encode(f"\n{word}", bos=False)
            for ids in (tokenizer.encode(word, bos=False), line[line.index(newline) + 1 :]):
                self.spellings[ids[0]].append((tuple(ids), word))

    def again(self, ids: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Where each word stands that was said before: its first token, and the one after it."""
        said, place = set[str](), 0
        while place < len(ids):
            for spelling, word in self.spellings.get(ids[place], ()):
                end = place + len(spelling)
                if tuple(ids[place:end]) == spelling:
                    if word in said:
                        yield place, end
                    said.add(word)
                    place = end - 1
                    break
            place += 1
