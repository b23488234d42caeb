"""Documents: token ids, and for each how much its prediction counts in the loss.

    text:      every token counts 1, the tokens of an answer more
    dialogue:  only what the assistant says counts, its end token included

A story has ten tokens that nobody could foresee for every one that reading it would give away.
Without the extra weight a small model spends its time on the ten.
Lesson: 10_heads_and_training.

Conventions
    The weight of a token is the weight of predicting it from those before it.
    Dialogues are encoded in Mistral's first instruct format: each `[INST] … [/INST]` and each
    answer is a segment of its own, the system line goes before the first user text with an empty
    line between.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from mistral_edu.training.dialogues import Message
from mistral_edu.training.drills import Piece
from mistral_edu.training.mentions import Mentions

ANSWER = "Answer:"


@runtime_checkable
class Encoder(Protocol):
    """What documents need of a tokenizer."""

    @property
    def eos_id(self) -> int | None: ...

    def encode(self, text: str, bos: bool = True, eos: bool = False) -> list[int]: ...


@dataclass(frozen=True)
class Document:
    """Token ids and a weight for each.

    >>> len(Document([1, 5], [1.0, 2.0]))
    2
    """

    ids: list[int]
    weights: list[float]

    def __len__(self) -> int:
        return len(self.ids)


class Texts:
    """Encodes texts whose questions are marked by "Answer:" at the beginning of a line.

    Args:
        tokenizer: turns text into ids.
        answer_weight: how much a token of an answer counts, and the line's end after it.
        mention_weight: how much a word of a text counts that names again what was named before.

    >>> class Letters:
    ...     eos_id = 2
    ...     def encode(self, text, bos=True, eos=False):
    ...         return [1] * bos + [ord(letter) for letter in text] + [2] * eos
    >>> Texts(Letters(), answer_weight=5.0).document("x\\nAnswer: y").weights[-4:]
    [1.0, 5.0, 5.0, 5.0]
    """

    def __init__(
        self, tokenizer: Encoder, answer_weight: float, mention_weight: float = 1.0
    ) -> None:
        self.tokenizer, self.answer_weight = tokenizer, answer_weight
        self.mention_weight = mention_weight
        probe = tokenizer.encode(f"\n{ANSWER}", bos=False)
        self.newline = tokenizer.encode("\n", bos=False)[-1]
        self.known: dict[str, list[int]] = {}
        self.marker = probe[probe.index(self.newline) :]

    @cached_property
    def mentions(self) -> Mentions:
        """Finds names again; made when first asked for, because it spells two hundred words."""
        return Mentions(self.tokenizer)

    def measure(self, text: str) -> int:
        """How many tokens a text has, the begin token not counted."""
        return len(self.tokenizer.encode(text, bos=False))

    def document(self, text: str, begun: bool = True) -> Document:
        """Encode a text, from its begin token if it is `begun` with one, to its end token."""
        ids = self.tokenizer.encode(text, bos=begun, eos=True)
        weights = [1.0] * len(ids)
        if self.mention_weight != 1.0:
            for start, end in self.mentions.again(ids):
                weights[start:end] = [self.mention_weight] * (end - start)
        for start, end in self.answers(ids):
            weights[start:end] = [self.answer_weight] * (end - start)
        return Document(ids, weights)

    def drill(self, pieces: Iterable[Piece], begun: bool = True) -> Document:
        """Encode a drill; the words of a piece that counts have the weight of an answer.

        No token crosses a space, so words are encoded one by one and remembered.
        """
        ids = self.tokenizer.encode("", bos=begun)
        (eos,) = self.tokenizer.encode("", bos=False, eos=True)
        weights = [1.0] * len(ids)
        for word, counts in words_of(pieces):
            follows_newline = ids[-1:] == [self.newline]
            new = [self.newline] if word == "\n" else self._encoded(word, follows_newline)
            ids += new
            weights += [self.answer_weight if counts else 1.0] * len(new)
        return Document([*ids, eos], [*weights, 1.0])

    def _encoded(self, word: str, follows_newline: bool) -> list[int]:
        """The ids of a word; one that begins a line has no space in front."""
        key = f"\n{word}" if follows_newline else word
        if key not in self.known:
            ids = self.tokenizer.encode(key, bos=False)
            self.known[key] = ids[ids.index(self.newline) + 1 :] if follows_newline else ids
        return self.known[key]

    def answers(self, ids: list[int]) -> list[tuple[int, int]]:
        """Where answers are: the first token of each, and the one after the token that ends it."""
        spans, size = [], len(self.marker)
        for place, token in enumerate(ids):
            if token == self.newline and ids[place : place + size] == self.marker:
                start = end = place + size
                while end < len(ids) and ids[end] not in (self.newline, self.tokenizer.eos_id):
                    end += 1
                spans.append((start, min(end + 1, len(ids))))
        return spans


def words_of(pieces: Iterable[Piece]) -> list[tuple[str, bool]]:
    """The words of a drill, line breaks among them, and which count; a stop joins its word.

    >>> words_of([Piece("Zoé likes"), Piece("soup", counts=True), Piece("."), Piece("\\n")])
    [('Zoé', False), ('likes', False), ('soup.', True), ('\\n', False)]
    """
    words: list[tuple[str, bool]] = []
    for text, counts in pieces:
        if text.startswith("."):
            words[-1] = (words[-1][0] + text, words[-1][1])
        else:
            words += [(word, counts) for word in text.split(" ")]
    return words


def dialogue_document(messages: list[Message], tokenizer: Encoder) -> Document:
    """Encode a dialogue; the loss counts what the assistant says, the end tokens included.

    >>> class Letters:
    ...     eos_id = 2
    ...     def encode(self, text, bos=True, eos=False):
    ...         return [1] * bos + [ord(letter) for letter in text] + [2] * eos
    >>> document = dialogue_document(
    ...     [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], Letters())
    >>> document.ids[-2:], document.weights[-3:]
    ([33, 2], [0.0, 1.0, 1.0])
    """
    ids, weights, system = tokenizer.encode("", bos=True), [], ""
    weights = [0.0] * len(ids)
    for message in messages:
        if message["role"] == "system":
            system = message["content"] + "\n\n"
            continue
        if message["role"] == "user":
            segment = tokenizer.encode(f"[INST] {system}{message['content']} [/INST]", bos=False)
            weight, system = 0.0, ""
        else:
            segment, weight = tokenizer.encode(message["content"], bos=False, eos=True), 1.0
        ids += segment
        weights += [weight] * len(segment)
    return Document(ids, weights)
