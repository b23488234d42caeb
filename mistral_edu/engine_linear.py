"""The engine's matrices: several fused into one, each multiplied in the way that is fast for it.

    [W_q; W_k; W_v] x = [W_q x; W_k x; W_v x]

A step reads every weight once for a row or two of numbers, so it is the reading that takes time.
One tall matrix is read in one go, and one product is started instead of three.

Source: Shoeybi et al., "Megatron-LM" (arXiv 1909.08053), section 3, for the fused matrices;
oneDNN's blocked weights, as PyTorch's compiler uses them when it freezes a model.
Lesson: 14_the_full_7b.

Conventions
    No weight is held twice. Fused, the model's own weights become parts of the fused matrix: the
    model goes on working, and what changes its weights in place changes the engine's.
    Packed, the weights are rearranged for the CPU's registers, and the model must do without.
    One matrix is fused at a time: beside the weights there is never more than one of them in
    memory, or two while it is packed.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from mistral_edu.quantization import Int8Linear

FEW_ROWS = 8  # up to here a CPU multiplies float32 faster with the operands changed over

Product = Callable[[Tensor], Tensor]


def product(x: Float[Tensor, "... C"], weight: Float[Tensor, "out C"]) -> Float[Tensor, "... out"]:
    """x Wᵀ; for a few rows of float32 on a CPU it is computed as (W xᵀ)ᵀ.

    The library cuts the left operand into the blocks that it works on: better the large one.

    >>> product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 1.0]]))
    tensor([[3., 3.]])
    """
    few = x.numel() <= FEW_ROWS * x.shape[-1]
    if not few or x.device.type != "cpu" or x.dtype != torch.float32:
        return functional.linear(x, weight)
    rows = x.reshape(-1, x.shape[-1])
    return (weight @ rows.T).T.reshape(*x.shape[:-1], -1)


class PackedLinear:
    """x Wᵀ with W in oneDNN's own blocked order, which suits the registers of this CPU.

    Plain products read W row by row and rearrange it on the way, every time. Here that was done
    once. It costs no memory beyond W's own and changes no number in it.

    Args:
        weight: (out, in); not kept.
        rows: how many rows `x` mostly has, for which the order is chosen. Any number is right.

    Raises:
        ValueError: for weights that oneDNN cannot pack here (see `why_unpackable`).

    >>> weight, x = torch.eye(3)[:2], torch.tensor([[1.0, 2.0, 3.0]])
    >>> if why_unpackable(weight) is None:
    ...     assert torch.equal(PackedLinear(weight)(x), x[:, :2])
    """

    def __init__(self, weight: Float[Tensor, "out in"], rows: int = 1) -> None:
        if reason := why_unpackable(weight):
            raise ValueError(f"pack=True cannot be had: {reason}; use pack=False")
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)

    def __call__(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")

    def unpacked(self) -> Float[Tensor, "out in"]:
        """A plain copy of W."""
        return self._packed.to_dense()


def why_unpackable(weight: Tensor) -> str | None:
    """Why `PackedLinear` cannot hold this weight, or None.

    >>> why_unpackable(torch.zeros(2, 2, dtype=torch.float64))
    'oneDNN packs float32, bfloat16 and float16, not float64'
    """
    name = str(weight.dtype).removeprefix("torch.")
    if weight.device.type != "cpu":
        return f"oneDNN packs weights on a CPU, not on {weight.device.type}"
    if not torch.backends.mkldnn.is_available():
        return "this PyTorch was built without oneDNN"
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return f"PyTorch {torch.__version__} does not have the operators"
    able = {torch.float32: True}
    able[torch.bfloat16] = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    able[torch.float16] = torch.ops.mkldnn._is_mkldnn_fp16_supported()
    if weight.dtype not in able:
        return f"oneDNN packs float32, bfloat16 and float16, not {name}"
    return None if able[weight.dtype] else f"this CPU has no instructions for {name}"


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
    """Refuse anything but linear layers with weights and without bias, or all in 8 bits.

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
    for linear in linears:
        if linear.weight is None:
            _explain(linear)


def fuse(linears: Sequence[nn.Module], pack_for: int | None = None) -> Product:
    """One product in the place of several that take the same input.

    Args:
        linears: the layers; see the conventions above for what becomes of them.
        pack_for: pack for so many rows; None leaves the weights as they are. 8-bit layers stay.

    Raises:
        ValueError, RuntimeError: see `require_alike`.

    >>> one, two = nn.Linear(4, 3, bias=False), nn.Linear(4, 2, bias=False)
    >>> fused, x = fuse([one, two]), torch.ones(1, 4)
    >>> torch.allclose(fused(x), torch.cat([one(x), two(x)], dim=1))
    True
    >>> len({linear.weight.untyped_storage().data_ptr() for linear in (one, two)})
    1
    """
    require_alike(linears)
    eights = [linear for linear in linears if isinstance(linear, Int8Linear)]
    if eights:
        steps: Tensor = torch.cat([linear.scale for linear in eights])
        return Int8Linear(_share([linear.weight for linear in eights]), steps)
    plain = [linear for linear in linears if isinstance(linear, nn.Linear)]
    weight = _share([linear.weight for linear in plain])
    if pack_for is None:
        return lambda x: product(x, weight)
    packed = PackedLinear(weight, pack_for)
    for linear in plain:
        linear.register_parameter("weight", None)
        linear.register_forward_pre_hook(_explain)
        linear.register_state_dict_pre_hook(_explain)  # or it would be saved without a word
    return packed


def _share(weights: Sequence[Tensor]) -> Tensor:
    """Fuse weights and make each a part of the whole; nothing then holds their old memory."""
    whole, start = one_matrix([weight.detach() for weight in weights]), 0
    for weight in weights:
        # The parameter stays the same object: an optimizer that holds it goes on.
        weight.data = whole[start : start + len(weight)]
        start += len(weight)
    return whole


def _explain(linear: nn.Module, *_: object) -> NoReturn:
    raise RuntimeError(
        f"{linear} has no weight: an Engine took it with pack=True; load the model again, or "
        "make the engine with pack=False"
    )
