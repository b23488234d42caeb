"""Weights in 8 bits: each row of a matrix as whole numbers and one step size.

    s = max |w| / 127,   q = round(w / s),   y = x Wᵀ ≈ s ⊙ (x qᵀ)

Rounding moves a weight by at most half a step, |w − s q| ≤ s / 2, so an output by at most
s / 2 · Σ |x|. A row has its own step: one large weight coarsens its row and no other. The step is
the same for all terms of a row's sum and may be multiplied in afterwards.

Source: Dettmers et al., "LLM.int8()" (arXiv 2208.07339), section 2.1; here the weights only.
Lesson: 14_the_full_7b.

Conventions
    Symmetric: codes from −127 to 127, zero stays zero. Activations keep their type.
    Steps stay in float32 whatever the model is cast to.
    `quantization_int4` is the same in 4 bits, `quantized_model` puts either into a model.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional

LARGEST = 127


def quantize_weight(
    weight: Float[Tensor, "out in"],
) -> tuple[Int8[Tensor, "out in"], Float[Tensor, "out"]]:
    """Round each row of a matrix to whole multiples of its own step.

    Returns:
        The codes and, in float32, the steps: |weight − step · code| ≤ step / 2 (but for the
        rounding of float32 itself, 10⁻⁵ of a step).

    Raises:
        ValueError: for a weight that is infinite or no number.

    >>> codes, steps = quantize_weight(torch.tensor([[1.27, -0.01, 0.004], [0.0, -254.0, 3.0]]))
    >>> codes.tolist(), steps
    ([[127, -1, 0], [0, -127, 2]], tensor([0.0100, 2.0000]))
    """
    least, most = weight.aminmax(dim=1)
    largest = torch.maximum(-least, most).float()
    if not largest.isfinite().all():
        row = int((~largest.isfinite()).nonzero()[0])
        raise ValueError(f"row {row} of the weight holds {largest[row]}: it has no step size")
    # A row of zeros has any step; the smallest normal number also keeps tiny rows from dividing
    # by a step that float32 can no longer hold exactly.
    steps = (largest / LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
    codes = (weight.float() / steps[:, None]).round_().to(torch.int8)
    return codes, steps


class Int8Linear(nn.Module):
    """y = s ⊙ (x qᵀ): a linear layer without bias whose weight is kept in 8 bits.

    It saves memory wherever it runs. It saves time only where the codes are widened on their way
    into the product (a compiled model on a GPU); run plainly, they are widened in memory first.

    Args:
        weight: (out, in) codes.
        scale: (out,) steps.

    >>> layer = Int8Linear(*quantize_weight(torch.tensor([[1.0, -0.5]])))
    >>> round(layer(torch.tensor([[1.0, 1.0]])).item(), 4)  # 127/127 − 64/127, not 0.5
    0.4961
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Int8[Tensor, "out in"], scale: Float[Tensor, "out"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        # Codes as 128ths: exact in every type, and in float16 a sum over whole codes may overflow.
        y = functional.linear(x, self.weight.to(x.dtype) / 128)
        return (y * (self.scale * 128)).to(x.dtype)

    def dequantized(self) -> Float[Tensor, "out in"]:
        """The weights that it computes with, s q, in float32.

        >>> Int8Linear(torch.tensor([[2, -3]], dtype=torch.int8), torch.tensor([0.5])).dequantized()
        tensor([[ 1.0000, -1.5000]])
        """
        return self.weight.float() * self.scale[:, None]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Int8Linear":
        steps = self.scale
        super()._apply(fn, recurse)
        if self.scale.dtype != torch.float32:  # .half() and .to(bfloat16) cast every float buffer
            self.scale = steps.to(self.scale.device)
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.weight.shape[1]}, out_features={self.weight.shape[0]}"


def quantize_linear(linear: nn.Linear) -> Int8Linear:
    """The 8-bit layer in the place of a linear one.

    Raises:
        ValueError: for a layer with a bias, which no layer of Mistral has; see `quantize_weight`.

    >>> quantize_linear(nn.Linear(4, 3, bias=False))
    Int8Linear(in_features=4, out_features=3)
    """
    if linear.bias is not None:
        raise ValueError(f"{linear} has a bias: Int8Linear has none")
    return Int8Linear(*quantize_weight(linear.weight.detach()))
