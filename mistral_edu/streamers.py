"""Streamers: receive a generation while it is being made.

Lesson: 12_generation_and_chat.

Conventions
    A streamer is told each step's new ids, one per row, by `put`, and the end by `end`.
    Text is written as soon as its characters are complete, never in halves.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor


@runtime_checkable
class Streamer(Protocol):
    """Receives new ids as they are made: `put` for each step, `end` once."""

    def put(self, tokens: Tensor) -> None: ...

    def end(self) -> None: ...


class TextStreamer:
    """Writes the text of a one-row generation as it grows; never half a character.

    Args:
        tokenizer: any with a `decoder()`.
        write: receives each piece of text.

    >>> import torch
    >>> from mistral_edu import MistralTokenizer
    >>> pieces = []
    >>> streamer = TextStreamer(MistralTokenizer.mistral_v1(), pieces.append)
    >>> for token in (28705, 243, 162, 148, 172):
    ...     streamer.put(torch.tensor([token]))
    >>> streamer.end()
    >>> "".join(pieces)
    '👩'
    """

    def __init__(self, tokenizer: Any, write: Callable[[str], object]) -> None:
        self.decoder, self.write = tokenizer.decoder(), write

    def put(self, tokens: Int[Tensor, "B"]) -> None:
        """Take the next id of the single row."""
        if tokens.numel() != 1:
            raise ValueError(f"TextStreamer writes one row, but the batch has {tokens.numel()}")
        self.write(self.decoder.add(int(tokens)))

    def end(self) -> None:
        """Write whatever was held back."""
        self.write(self.decoder.finish())
