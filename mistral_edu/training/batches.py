"""Batches: encoded texts laid end to end and cut into blocks of one context each.

    <s> text </s> <s> text </s> …   →   (batch, context) blocks, in an order drawn from a seed

Lesson: 10_heads_and_training.

Conventions
    A block may begin in the middle of a text. Nothing marks where one text ends but the ids
    themselves: the model learns that what stands before <s> does not matter after it.
    The order of the blocks is a function of (seed, epoch) alone.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor


@runtime_checkable
class Encoder(Protocol):
    """What `token_blocks` needs of a tokenizer."""

    def encode(self, text: str, bos: bool = True, eos: bool = False) -> list[int]: ...


def token_blocks(texts: Iterable[str], tokenizer: Encoder, context: int) -> Int[Tensor, "N T"]:
    """Encode texts, lay them end to end and cut blocks of `context` tokens; the rest is dropped.

    Raises:
        ValueError: if the texts do not fill one block.

    >>> class Letters:
    ...     def encode(self, text, bos=True, eos=False):
    ...         return [1, *(ord(letter) for letter in text), 2]
    >>> token_blocks(["ab", "c"], Letters(), context=3)
    tensor([[ 1, 97, 98],
            [ 2,  1, 99]])
    """
    ids = [i for text in texts for i in tokenizer.encode(text, bos=True, eos=True)]
    blocks = len(ids) // context
    if blocks == 0:
        raise ValueError(f"{len(ids)} tokens do not fill one block of {context}: give more text")
    return torch.tensor(ids[: blocks * context]).view(blocks, context)


def batches(blocks: Int[Tensor, "N T"], batch_size: int, seed: int) -> Iterator[Int[Tensor, "B T"]]:
    """Yield batches without end, each epoch in a new order drawn from the seed.

    >>> stream = batches(torch.arange(4)[:, None], batch_size=2, seed=0)
    >>> sorted(torch.cat([next(stream), next(stream)]).flatten().tolist())
    [0, 1, 2, 3]
    """
    if not 1 <= batch_size <= len(blocks):
        raise ValueError(
            f"batch_size={batch_size} must be between 1 and the {len(blocks)} blocks there are"
        )
    epoch = 0
    while True:
        order = torch.randperm(
            len(blocks), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        )
        for chosen in order[: len(order) // batch_size * batch_size].split(batch_size):
            yield blocks[chosen]
        epoch += 1
