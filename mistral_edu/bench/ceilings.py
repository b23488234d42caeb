"""What the machine can do at most: read, copy, multiply.

    read     a tensor far larger than the caches, all threads                 bytes a second
    copy     one such tensor into another, bytes read plus bytes written      bytes a second
    matmul   a square product, for each type                                  operations a second

Decoding is bound by reading (every weight, for every token), taking in a prompt by multiplying.
Who reads fastest is not known beforehand: on a CPU PyTorch's sum and the compiled product of one
row (`engine_kernel`) both try, and the limit is the better of the two. A limit that the code under
test can pass would be none.

Source: Williams, Waterman and Patterson, "Roofline" (2009): the two bounds of any kernel.
Lesson: 14_the_full_7b.

Conventions
    Measured in turns like the peers, before them, on the same threads.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mistral_edu.bench.timing import Block, Spread, Work, finisher, interleaved
from mistral_edu.engine_kernel import CompiledProduct, why_uncompiled

READ, READ_BY_PRODUCT, COPY = "read", "read by a product", "copy"
COLUMNS = 1024  # of the matrix that is read by a product
LARGE = {"cpu": 2**30, "cuda": 2**32}  # bytes; past every cache
SIDE = {"cpu": 2048, "cuda": 8192}
QUICK = 4  # quick: a quarter of the bytes, half the side
ROUNDS = 7


@dataclass(frozen=True)
class Ceilings:
    """The limits of this run: bytes a second, and operations a second for each type's name."""

    read: Spread
    copy: Spread
    matmul: dict[str, Spread]

    def as_json(self) -> dict[str, Any]:
        """The limits for the record, in GB/s and GFLOP/s."""
        giga = {READ: _giga(self.read), COPY: _giga(self.copy)}
        return giga | {f"matmul {name}": _giga(rate) for name, rate in self.matmul.items()}


def _giga(rate: Spread) -> dict[str, float]:
    kept = ("median", "low", "high")
    found = asdict(rate)
    return {k: round(v / 1e9, 2) if k in kept else v for k, v in found.items()}


def measure(dtypes: Sequence[torch.dtype], device: torch.device, quick: bool = False) -> Ceilings:
    """Measure what the device can do; seconds on a CPU.

    Args:
        dtypes: types to multiply in.
        device: where.
        quick: with smaller tensors.
    """
    count = LARGE[device.type] // 4 // (QUICK if quick else 1)
    side = SIDE[device.type] // (2 if quick else 1)
    source, target = torch.rand(count, device=device), torch.empty(count, device=device)
    work = {READ: Work(source.sum), COPY: Work(lambda: target.copy_(source))}
    operations = {READ: 4.0 * count, COPY: 8.0 * count}
    if why_uncompiled(source) is None:
        work[READ_BY_PRODUCT] = Work(_product_of_one_row(source))
        operations[READ_BY_PRODUCT] = operations[READ]
    for dtype in dtypes:
        left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        work[name_of(dtype)] = Work(_product(left, right))
        operations[name_of(dtype)] = 2.0 * side**3
    blocks = interleaved(work, ROUNDS, finisher(device))
    rates = {name: _rate(blocks[name], operations[name]) for name in work}
    matmul = {name_of(dtype): rates[name_of(dtype)] for dtype in dtypes}
    reads = [rates[name] for name in (READ, READ_BY_PRODUCT) if name in rates]
    return Ceilings(max(reads, key=lambda rate: rate.median), rates[COPY], matmul)


def _product_of_one_row(numbers: torch.Tensor):  # type: ignore[no-untyped-def]
    row = torch.ones(1, COLUMNS)
    product = CompiledProduct(numbers[: len(numbers) // COLUMNS * COLUMNS].view(-1, COLUMNS))
    return lambda: product(row)


def _product(left: torch.Tensor, right: torch.Tensor):  # type: ignore[no-untyped-def]
    return lambda: left @ right


def _rate(blocks: Sequence[Block], amount: float) -> Spread:
    return Spread.of_blocks(blocks, lambda seconds: amount / seconds)


def name_of(dtype: torch.dtype) -> str:
    """A type's name without "torch.".

    >>> name_of(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")
