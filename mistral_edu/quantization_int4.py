"""Weights in 4 bits: sixteen numbers for each weight, spread anew over every few neighbours.

    in a group of n:   s = (max w − min w) / 15,   q = round((w − min w) / s),   w ≈ min w + s q

Sixteen numbers are few. One step for a whole row, as in 8 bits, would be so coarse that one large
weight drowns its row; so each group of 32 has its own step and its own least weight, which costs
another bit for each weight (two numbers of 16 bits for 32 weights).

Source: Frantar et al., "GPTQ" (arXiv 2210.17323), section 5, for groups; here plain rounding. The
product is PyTorch's own operator, `_weight_int4pack_mm_for_cpu`.
Lesson: 14_the_full_7b.

Conventions
    Codes from 0 to 15. Step and zero are kept in the type of the activations, and codes are chosen
    for them as they are after rounding to it. The operator's zero is the value of code 8.
    On a CPU only, and without gradients: the operator has none.
"""

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn

GROUP, GROUPS = 32, (32, 64, 128, 256)
LARGEST, MIDDLE = 15, 8
ROWS = 16  # the operator takes outputs by so many


def quantize_groups(
    weight: Float[Tensor, "out in"], group: int = GROUP
) -> tuple[Int32[Tensor, "out in"], Float[Tensor, "out groups"], Float[Tensor, "out groups"]]:
    """Round each group of a matrix to sixteen evenly spaced numbers.

    Returns:
        Codes q, steps s and zeros z, with w ≈ z + s (q − 8); s and z in the weight's type.

    Raises:
        ValueError: for a weight that is infinite or no number, or a group that does not divide it.

    >>> codes, steps, zeros = quantize_groups(torch.tensor([[0.0, 1.5, 0.7, 0.2]]), group=4)
    >>> codes.tolist(), [round(x.item(), 2) for x in (steps, zeros)]
    ([[0, 15, 7, 2]], [0.1, 0.8])
    """
    if weight.shape[1] % group:
        raise ValueError(
            f"group={group} does not divide the {weight.shape[1]} inputs: choose another of "
            f"{', '.join(map(str, GROUPS))}, or bits=8"
        )
    groups = weight.float().unflatten(1, (-1, group))  # (out, in) → (out, groups, group)
    least, most = groups.aminmax(dim=2)
    if not (least.isfinite() & most.isfinite()).all():
        raise ValueError("the weight holds numbers that are not finite: they have no step size")
    steps = ((most - least) / LARGEST).clamp(min=torch.finfo(torch.float32).tiny).to(weight.dtype)
    zeros = (least + MIDDLE * steps.float()).to(weight.dtype)
    apart = (groups - zeros.float()[..., None]) / steps.float()[..., None]
    codes = (apart.round() + MIDDLE).clamp(0, LARGEST).int()
    return codes.flatten(1), steps, zeros


class Int4Linear(nn.Module):
    """A linear layer without bias whose weight is kept in 4 bits, two codes in a byte.

    Args:
        packed: (out, in / 2), in the operator's own order.
        step_and_zero: (groups, out, 2), in the type of the activations.
        group: weights that share a step and a zero.

    >>> layer = Int4Linear.of(torch.randn(16, 64))
    >>> layer(torch.ones(2, 64)).shape, layer.packed.nbytes
    (torch.Size([2, 16]), 512)
    """

    packed: Tensor
    step_and_zero: Tensor

    def __init__(self, packed: Tensor, step_and_zero: Tensor, group: int) -> None:
        super().__init__()
        self.register_buffer("packed", packed)
        self.register_buffer("step_and_zero", step_and_zero)
        self.group = group

    @classmethod
    def of(cls, weight: Float[Tensor, "out in"], group: int = GROUP) -> "Int4Linear":
        """Quantize a weight; its type is that of the activations.

        Raises:
            ValueError: for a weight elsewhere than on a CPU, outputs that are no multiple of 16,
                an unknown group; see `quantize_groups`.
        """
        if weight.device.type != "cpu":
            raise ValueError(f"4-bit weights are for a CPU, not {weight.device.type}: use bits=8")
        if len(weight) % ROWS:
            raise ValueError(f"{len(weight)} outputs are no multiple of {ROWS}: use bits=8")
        if group not in GROUPS:
            raise ValueError(f"group={group}: choose one of {', '.join(map(str, GROUPS))}")
        codes, steps, zeros = quantize_groups(weight, group)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        both = torch.stack([steps, zeros], dim=-1)  # → (out, groups, 2)
        return cls(packed, both.transpose(0, 1).contiguous(), group)

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        rows = x.reshape(-1, x.shape[-1])
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows, self.packed, self.group, self.step_and_zero
        )
        return y.unflatten(0, x.shape[:-1])

    def dequantized(self) -> Float[Tensor, "out in"]:
        """The weights that it computes with."""
        return self(torch.eye(2 * self.packed.shape[1], dtype=self.step_and_zero.dtype)).T

    def extra_repr(self) -> str:
        outs, half = self.packed.shape
        return f"in_features={2 * half}, out_features={outs}, group={self.group}"


def quantize_linear_int4(linear: nn.Linear, group: int = GROUP) -> Int4Linear:
    """The 4-bit layer in the place of a linear one.

    Raises:
        ValueError: for a layer with a bias, which no layer of Mistral has; see `Int4Linear.of`.

    >>> quantize_linear_int4(nn.Linear(64, 16, bias=False))
    Int4Linear(in_features=64, out_features=16, group=32)
    """
    if linear.bias is not None:
        raise ValueError(f"{linear} has a bias: Int4Linear has none")
    return Int4Linear.of(linear.weight.detach(), group)
