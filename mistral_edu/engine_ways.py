"""Ways to multiply a few rows by a matrix, and which is fastest on this machine.

    plain      x Wᵀ, as PyTorch's linear layers do it
    swapped    (W xᵀ)ᵀ, for libraries that cut up the left operand: better the large one
    operator   PyTorch's product with 8-bit weights, which widens them on the way
    compiled   a loop of our own (see `engine_kernel`)

All are the same sum in another order. Which is fastest depends on the processor, the type and the
number of rows, by factors of two and more and against expectation; so it is measured, not guessed.

Lesson: 14_the_full_7b.

Conventions
    Measured once in a process for each shape, on weights made for it: enough of them that they are
    not simply found in the caches. A way must be clearly faster than a simpler one to be taken.
    More rows than were measured, as in a prompt, are multiplied plainly.
    8-bit weights: the way multiplies by the codes, and the steps come afterwards.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from mistral_edu.engine_kernel import CompiledProduct, why_uncompiled
from mistral_edu.quantization import Int8Linear

Product = Callable[[Tensor], Tensor]
PLAIN, SWAPPED, OPERATOR, COMPILED = "plain", "swapped", "operator", "compiled"
MEASURED = "measured"
ROUNDS = 5
CLEARLY = 0.95  # of the time of a simpler way
BYTES, MOST_COPIES = 2**26, 16  # of weights to measure with


def plain(weight: Float[Tensor, "out in"]) -> Product:
    """x Wᵀ.

    >>> plain(torch.tensor([[3.0, 0.0], [1.0, 1.0]]))(torch.tensor([[1.0, 2.0]]))
    tensor([[3., 3.]])
    """
    return lambda x: functional.linear(x, weight)


def swapped(weight: Float[Tensor, "out in"]) -> Product:
    """(W xᵀ)ᵀ.

    >>> swapped(torch.tensor([[3.0, 0.0], [1.0, 1.0]]))(torch.tensor([[1.0, 2.0]]))
    tensor([[3., 3.]])
    """

    def product(x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        rows = x.reshape(-1, x.shape[-1])
        return (weight @ rows.T).T.reshape(*x.shape[:-1], -1)

    return product


def compiled_int8(linear: Int8Linear) -> Product:
    """s ⊙ (x qᵀ), where the codes q are widened on their way into the product."""
    codes = CompiledProduct(linear.weight)
    return lambda x: (codes.sums(x) * linear.scale).to(x.dtype)


def operator_int8(linear: Int8Linear) -> Product:
    """s ⊙ (x qᵀ) by PyTorch's operator for it."""

    def product(x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        rows = x.reshape(-1, x.shape[-1]).float()  # in half precision it would round the steps
        y: Tensor = torch.ops.aten._weight_int8pack_mm(rows, linear.weight, linear.scale)
        return y.to(x.dtype).unflatten(0, x.shape[:-1])

    return product


def ways_for(weight: Tensor) -> list[str]:
    """What can be done with a weight, the simplest first.

    >>> ways_for(torch.zeros(2, 2, dtype=torch.float64))
    ['plain', 'swapped']
    """
    if weight.device.type != "cpu":
        return [PLAIN]
    ways = [PLAIN, OPERATOR if weight.dtype == torch.int8 else SWAPPED]
    return ways if why_uncompiled(weight) else [*ways, COMPILED]


def product_for(matrix: Tensor | Int8Linear, way: str) -> Product:
    """Multiply by a matrix in one of the ways of `ways_for`.

    Raises:
        ValueError: for another way.
    """
    weight = matrix.weight if isinstance(matrix, Int8Linear) else matrix
    if way != PLAIN and way not in ways_for(weight):  # plain needs no compiler
        reason = why_uncompiled(weight) if way == COMPILED else None
        raise ValueError(
            f"multiply={way!r} cannot be had for {weight.dtype} on {weight.device.type}"
            f"{f': {reason}' if reason else ''}; choose {MEASURED} or one of "
            f"{', '.join(ways_for(weight))}"
        )
    if isinstance(matrix, Int8Linear):
        if way == PLAIN:
            return matrix
        return operator_int8(matrix) if way == OPERATOR else compiled_int8(matrix)
    if way == COMPILED:
        return CompiledProduct(matrix)
    return plain(matrix) if way == PLAIN else swapped(matrix)


class ChosenProduct:
    """x Wᵀ for mostly `rows` rows, in the way that is fastest here or in the way asked for.

    Args:
        matrix: (out, in), or an 8-bit layer.
        rows: B of a step.
        multiply: "measured", or one of `ways_for`.

    Raises:
        ValueError: for a way that cannot be had.

    >>> chosen = ChosenProduct(torch.eye(3), rows=1, multiply="swapped")
    >>> chosen(torch.tensor([[1.0, 2.0, 3.0]])), chosen.way
    (tensor([[1., 2., 3.]]), 'swapped')
    """

    def __init__(self, matrix: Tensor | Int8Linear, rows: int, multiply: str = MEASURED) -> None:
        weight = matrix.weight if isinstance(matrix, Int8Linear) else matrix
        self.way, self.rows, self.matrix = multiply, rows, matrix
        if multiply == MEASURED:
            self.way = PLAIN
            if weight.device.type == "cpu":
                shape = (weight.shape[0], weight.shape[1])
                self.way = fastest(shape, weight.dtype, rows, torch.get_num_threads())
        self._few, self._many = product_for(matrix, self.way), product_for(matrix, PLAIN)

    @property
    def parts(self) -> tuple[Shaped[Tensor, "out in"], Float[Tensor, "out"] | None]:
        """The numbers of the matrix; and, if they are 8-bit codes, the steps of its rows."""
        if isinstance(self.matrix, Int8Linear):
            return self.matrix.weight, self.matrix.scale
        return self.matrix, None

    def __call__(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        few = x.numel() <= self.rows * x.shape[-1]
        return self._few(x) if few else self._many(x)


@cache
def fastest(shape: tuple[int, int], dtype: torch.dtype, rows: int, threads: int) -> str:
    """The fastest way on this CPU for weights of a shape (out, in) and a type.

    Args:
        threads: that PyTorch uses; named because the answer depends on it.

    >>> fastest((8, 4), torch.float64, 1, torch.get_num_threads()) in ("plain", "swapped")
    True
    """
    made = [_made(shape, dtype) for _ in range(_copies(shape, dtype))]
    like = torch.float32 if dtype == torch.int8 else dtype
    x = torch.ones(rows, shape[1], dtype=like, device="cpu")
    weight = made[0].weight if isinstance(made[0], Int8Linear) else made[0]
    products = {way: [product_for(one, way) for one in made] for way in ways_for(weight)}
    seconds: dict[str, list[float]] = {way: [] for way in products}
    for _ in range(ROUNDS + 1):  # the first is to warm up
        for way, many in products.items():
            began = time.perf_counter()
            for product in many:
                product(x)
            seconds[way].append(time.perf_counter() - began)
    best = PLAIN
    for way in products:
        took, least = (statistics.median(seconds[name][1:]) for name in (way, best))
        best = way if took < CLEARLY * least else best
    return best


def _copies(shape: tuple[int, int], dtype: torch.dtype) -> int:
    return max(1, min(MOST_COPIES, BYTES // (shape[0] * shape[1] * dtype.itemsize)))


def _made(shape: tuple[int, int], dtype: torch.dtype) -> Shaped[Tensor, "out in"] | Int8Linear:
    weight = torch.ones(shape, dtype=dtype, device="cpu")
    steps = torch.ones(shape[0], dtype=torch.float32, device="cpu")
    return Int8Linear(weight, steps) if dtype == torch.int8 else weight
