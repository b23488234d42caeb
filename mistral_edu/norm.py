"""RMSNorm: divide a vector by its root mean square, then scale each channel.

    y = x / sqrt(mean(x²) + eps) · weight

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (arXiv 1910.07467), section 3.
Lesson: 02_norm_and_feed_forward.

Conventions
    The mean square is taken in float32 whatever the input's type; the result is cast back to
    that type BEFORE the weight multiplies it. Both reference implementations do it in this order,
    and in half precision the order shows in the last bit.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def rms_norm(x: Float[Tensor, "... C"], weight: Float[Tensor, "C"], eps: float) -> Tensor:
    """Normalise the last axis of `x` to root mean square 1 and scale it by `weight`.

    Args:
        x: any shape, channels last.
        weight: one factor per channel.
        eps: added to the mean square; keeps an all-zero vector at zero.

    Returns:
        A tensor of `x`'s shape and dtype (if weight has that dtype).

    >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2), eps=0.0)
    tensor([0.8485, 1.1314])
    """
    x32 = x.float()
    mean_square = x32.pow(2).mean(dim=-1, keepdim=True)
    return weight * (x32 * torch.rsqrt(mean_square + eps)).to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight, initially one.

    >>> RMSNorm(4, eps=1e-5)(torch.zeros(1, 4))
    tensor([[0., 0., 0., 0.]], grad_fn=<MulBackward0>)
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
        return rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}"
