"""Streamers: receive a generation while it is being made.

Lesson: 12_generation_and_chat.

Conventions
    A streamer is told each step's new ids, one per row, by `put`, and the end by `end`, which
    comes after an interrupt too. The ids are on the CPU.
    Text is written as soon as its characters are complete, never in halves.
"""

from collections.abc import Callable, Iterable
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
        prompt: ids that the new ones follow. They are not written, but they decide whether the
            first piece keeps its leading space and may begin a character that it completes.

    >>> import torch
    >>> from mistral_edu import MistralTokenizer
    >>> pieces = []
    >>> streamer = TextStreamer(MistralTokenizer.mistral_v1(), pieces.append, prompt=[1, 22557])
    >>> for token in (28705, 243, 162, 148, 172):
    ...     streamer.put(torch.tensor([token]))
    >>> streamer.end()
    >>> "".join(pieces)
    ' 👩'
    """

    def __init__(
        self, tokenizer: Any, write: Callable[[str], object], prompt: Iterable[int] = ()
    ) -> None:
        self.decoder, self.write = tokenizer.decoder(), write
        for token in prompt:
            self.decoder.add(token)

    def put(self, tokens: Int[Tensor, "B"]) -> None:
        """Take the next id of the single row."""
        if tokens.numel() != 1:
            raise ValueError(f"TextStreamer writes one row, but the batch has {tokens.numel()}")
        self.write(self.decoder.add(int(tokens)))

    def end(self) -> None:
        """Write whatever was held back."""
        self.write(self.decoder.finish())


class ProgressStreamer:
    """Shows a progress bar: tokens made, tokens per second, time left at most.

    Args:
        total: `max_new_tokens`; rows may all end before.
        bar: what shows it, with `update(steps)` and `close()`; None makes a `tqdm` bar that suits
            a terminal or a notebook.

    >>> import torch
    >>> class Steps(list):
    ...     update = list.append
    ...     close = lambda self: self.append("end")
    >>> bar = Steps()
    >>> streamer = ProgressStreamer(total=2, bar=bar)
    >>> streamer.put(torch.tensor([5, 6]))
    >>> streamer.end()
    >>> bar
    [1, 'end']
    """

    def __init__(self, total: int, bar: Any = None) -> None:
        if bar is None:
            from tqdm.auto import tqdm  # Not at the top: it looks for a notebook, which takes time.

            bar = tqdm(total=total, unit="token")
        self.bar = bar

    def put(self, tokens: Int[Tensor, "B"]) -> None:
        """Count one token for each row."""
        self.bar.update(1)

    def end(self) -> None:
        """Leave the bar where it is."""
        self.bar.close()
