"""The engine's matrices: several fused into one, each multiplied in the way that is fast for it.

    [W_q; W_k; W_v] x = [W_q x; W_k x; W_v x]

Decoding reads every weight once for a row or two of numbers, so it is the reading that takes time.
One tall matrix is read in one go, and a product is started once instead of three times.

Source: Shoeybi et al., "Megatron-LM" (arXiv 1909.08053), section 3, for the fused matrices;
oneDNN's "prepacked weights", which PyTorch's compiler uses when it freezes a model.
Lesson: 14_the_full_7b.

Conventions
    No weight is held twice. Fused plainly, the model's own parameters become parts of the fused
    matrix: the model goes on working, and what changes its weights in place changes the engine's.
    Packed, the weights are rearranged for the CPU's registers and the model's are given up.
    One matrix is fused at a time, so no more than one is ever in memory twice.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mistral_edu.quantization import Int8Linear

FEW_ROWS = 16  # up to here a CPU's product is faster with its operands changed over

Product = Callable[[Tensor], Tensor]


def product(x: Float[Tensor, "... C"], weight: Float[Tensor, "out C"]) -> Float[Tensor, "... out"]:
    """x Wᵀ. For a few rows on a CPU as (W xᵀ)ᵀ: the library then splits W, not x, among cores.

    >>> product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 1.0]]))
    tensor([[6., 3.]])
    """
    if x.device.type != "cpu" or x.numel() > FEW_ROWS * x.shape[-1]:
        return functional.linear(x, weight)
    rows = x.reshape(-1, x.shape[-1])
    return (weight @ rows.T).T.reshape(*x.shape[:-1], -1)


def one_matrix(weights: Sequence[Float[Tensor, "_ C"]]) -> Float[Tensor, "out C"]:
    """The weights on top of each other; the same memory if they lie there like this already.

    >>> both = torch.arange(6.0).view(3, 2)
    >>> one_matrix([both[:1], both[1:]]).data_ptr() == both.data_ptr()
    True
    """
    first, rows, columns = weights[0], sum(map(len, weights)), weights[0].shape[1]
    address = first.data_ptr()
    for weight in weights:
        if not weight.is_contiguous() or weight.data_ptr() != address:
            return torch.cat(list(weights))
        address += weight.numel() * weight.element_size()
    if address > first.untyped_storage().data_ptr() + first.untyped_storage().nbytes():
        return torch.cat(list(weights))
    return first.as_strided((rows, columns), (columns, 1))


def fuse(linears: Sequence[nn.Module]) -> Product:
    """One product in the place of several of the same input; see the conventions above.

    Raises:
        ValueError: for anything but linear layers without bias, or their 8-bit kind, all alike.

    >>> one, two = nn.Linear(4, 3, bias=False), nn.Linear(4, 2, bias=False)
    >>> fused, x = fuse([one, two]), torch.ones(1, 4)
    >>> torch.allclose(fused(x), torch.cat([one(x), two(x)], dim=1))
    True
    """
    plain = [x for x in linears if type(x) is nn.Linear and x.bias is None]
    if len(plain) == len(linears):
        weight = one_matrix([linear.weight.detach() for linear in plain])
        start = 0
        for linear in plain:
            linear.weight.data = weight[start : (start := start + linear.out_features)]
        return lambda x: product(x, weight)
    raise ValueError(f"{linears} cannot be fused")


__all__ = ["Int8Linear", "fuse", "one_matrix", "product"]
