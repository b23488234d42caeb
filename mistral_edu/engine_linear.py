"""The engine's matrices: several fused into one, each multiplied in the way that is fast for it.

    [W_q; W_k; W_v] x = [W_q x; W_k x; W_v x]

A step reads every weight once for a row or two of numbers, so it is the reading that takes time.
One tall matrix is read in one go, and one product is started instead of three.

Source: Shoeybi et al., "Megatron-LM" (arXiv 1909.08053), section 3.
Lesson: 14_the_full_7b.

Conventions
    No weight is held twice: the model's own weights become parts of the fused matrix. The model
    goes on working, and what changes its weights in place changes the engine's.
    One matrix is fused at a time: beside the weights there is never more than one in memory.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mistral_edu.engine_ways import MEASURED, ChosenProduct
from mistral_edu.quantization import Int8Linear


def one_matrix(weights: Sequence[Shaped[Tensor, "_ C"]]) -> Shaped[Tensor, "out C"]:
    """Matrices on top of each other; without copying if they lie like this in memory already.

    >>> both = torch.arange(6.0).view(3, 2)
    >>> one_matrix([both[:1], both[1:]]).data_ptr() == both.data_ptr()
    True
    """
    first = weights[0]
    place = first.storage_offset()
    for weight in weights:
        is_next = weight.is_contiguous() and weight.storage_offset() == place
        if not is_next or weight.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
            return torch.cat(list(weights))
        place += weight.numel()
    rows, columns = sum(map(len, weights)), first.shape[1]
    return first.as_strided((rows, columns), (columns, 1))


def require_alike(linears: Sequence[nn.Module]) -> None:
    """Refuse anything but linear layers without bias, or all in 8 bits.

    >>> require_alike([nn.Linear(4, 3)])
    Traceback (most recent call last):
    ...
    ValueError: ['Linear'] cannot be fused, expected linear layers without bias, or all of them \
quantized: use the plain model.generate
    """
    kinds = {type(linear) for linear in linears}
    biased = any(getattr(linear, "bias", None) is not None for linear in linears)
    if biased or kinds not in ({nn.Linear}, {Int8Linear}):
        raise ValueError(
            f"{[type(linear).__name__ for linear in linears]} cannot be fused, expected linear "
            "layers without bias, or all of them quantized: use the plain model.generate"
        )


def fuse(linears: Sequence[nn.Module], rows: int = 1, multiply: str = MEASURED) -> ChosenProduct:
    """One product in the place of several that take the same input.

    Args:
        linears: the layers; see the conventions above for what becomes of them.
        rows, multiply: see `ChosenProduct`.

    Raises:
        ValueError: see `require_alike` and `ChosenProduct`.

    >>> one, two = nn.Linear(4, 3, bias=False), nn.Linear(4, 2, bias=False)
    >>> fused, x = fuse([one, two]), torch.ones(1, 4)
    >>> torch.allclose(fused(x), torch.cat([one(x), two(x)], dim=1))
    True
    >>> len({linear.weight.untyped_storage().data_ptr() for linear in (one, two)})
    1
    """
    require_alike(linears)
    eights = [linear for linear in linears if isinstance(linear, Int8Linear)]
    weight = _share([linear.weight for linear in linears if isinstance(linear.weight, Tensor)])
    if not eights:
        return ChosenProduct(weight, rows, multiply)
    steps = one_matrix([linear.scale.float()[:, None] for linear in eights]).squeeze(1)
    for linear, part in zip(eights, steps.split([len(e.scale) for e in eights]), strict=True):
        linear.scale = part
    return ChosenProduct(Int8Linear(weight, steps), rows, multiply)


def _share(weights: Sequence[Tensor]) -> Tensor:
    """Fuse weights and make each a part of the whole; nothing then holds their old memory."""
    whole, start = one_matrix([weight.detach() for weight in weights]), 0
    for weight in weights:
        # The parameter stays the same object: an optimizer that holds it goes on.
        weight.data = whole[start : start + len(weight)]
        start += len(weight)
    return whole
