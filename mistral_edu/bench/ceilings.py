"""What the machine can do at most: read, copy, multiply.

    read     a tensor far larger than the caches, all threads                 bytes a second
    copy     one such tensor into another, bytes read plus bytes written      bytes a second
    matmul   a square product, for each type                                  operations a second

Decoding is bound by reading (every weight, for every token), taking in a prompt by multiplying.
Who reads fastest is not known beforehand: several ways of only reading try (`ways_to_read`), and
the limit is the best of them. A limit that the code under test can pass would be none.

Source: Williams, Waterman and Patterson, "Roofline" (2009): the two bounds of any kernel.
Lesson: 14_the_full_7b.

Conventions
    Measured in turns like the peers, before them, on the same threads.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mistral_edu.bench.timing import Block, Spread, Work, finisher, interleaved
from mistral_edu.engine_kernel import CompiledProduct, why_uncompiled

READ, READ_BY_MAXIMUM, READ_BY_VECTOR = "read", "read by the maximum", "read by matrix times vector"
READ_BY_PRODUCT, COPY = "read by a product", "copy"
COLUMNS = 1024  # of the matrix that is read
KIND = {"cpu": torch.float32, "cuda": torch.bfloat16}  # of its numbers
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
    kind, side = KIND[device.type], SIDE[device.type] // (2 if quick else 1)
    rows = LARGE[device.type] // (QUICK if quick else 1) // (COLUMNS * kind.itemsize)
    source = torch.rand(rows, COLUMNS, dtype=kind, device=device)
    target = torch.empty_like(source)
    reads = ways_to_read(source)
    work = {name: Work(way) for name, way in reads.items()}
    operations = dict.fromkeys(reads, float(source.nbytes))
    work[COPY], operations[COPY] = Work(lambda: target.copy_(source)), 2.0 * source.nbytes
    for dtype in dtypes:
        left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        work[name_of(dtype)] = Work(_product(left, right))
        operations[name_of(dtype)] = 2.0 * side**3
    blocks = interleaved(work, ROUNDS, finisher(device))
    rates = {name: _rate(blocks[name], operations[name]) for name in work}
    matmul = {name_of(dtype): rates[name_of(dtype)] for dtype in dtypes}
    read = max((rates[name] for name in reads), key=lambda rate: rate.median)
    return Ceilings(read, rates[COPY], matmul)


def ways_to_read(matrix: Float[Tensor, "rows columns"]) -> dict[str, Callable[[], Tensor]]:
    """Operations that read a whole matrix and write next to nothing, by name.

    A sum, which on a CPU the compiled product of one row tries to pass, and elsewhere the largest
    number and the product with a vector: what decoding does all day.

    Args:
        matrix: on the device to measure; its rows are a multiple of four bytes.

    >>> ways = ways_to_read(torch.ones(2, 4))
    >>> ways["read"]()
    tensor(8.)
    """
    ways: dict[str, Callable[[], Tensor]] = {READ: matrix.view(torch.float32).sum}
    if matrix.device.type != "cpu":
        vector = torch.ones_like(matrix[0])
        ways |= {READ_BY_MAXIMUM: matrix.amax, READ_BY_VECTOR: lambda: matrix @ vector}
    elif why_uncompiled(matrix) is None:
        row, product = torch.ones_like(matrix[:1]), CompiledProduct(matrix)
        ways[READ_BY_PRODUCT] = lambda: product(row)
    return ways


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
