"""Rotary position embedding: a position turns each pair of channels by an angle.

    angle(p, i) = p · theta^(−2i/D),  i = 0 … D/2 − 1
    (a, b) → (a cos − b sin, b cos + a sin)

The score of a rotated query at position i with a rotated key at position j depends on i − j only.

Source: Su et al., "RoFormer" (arXiv 2104.09864), section 3.2.
Lesson: 03_rotary_positions.

Conventions
    Two layouts exist for which channels make a pair. Hugging Face checkpoints pair channel i with
    channel i + D/2 ("halves"); the original Mistral files pair 2i with 2i + 1 ("pairs"). Using the
    wrong one gives no error, only a wrong model; `pairs_to_halves` permutes weights between them.
    This library computes with halves.
    Angles are float32, always: bfloat16 cannot tell position 4097 from 4096. Nothing is tabled, so
    no position is too large.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rope_frequencies(head_dim: int, theta: float) -> Float[Tensor, "pairs"]:
    """Radians per position for each of the D/2 pairs, from fast (1) to slow.

    Args:
        head_dim: D, even.
        theta: base of the geometric series.

    >>> rope_frequencies(4, theta=10000.0)
    tensor([1.0000, 0.0100])
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    return 1.0 / theta**exponents


def rotation(
    positions: Int[Tensor, "B T"], head_dim: int, theta: float
) -> tuple[Float[Tensor, "B 1 T pairs"], Float[Tensor, "B 1 T pairs"]]:
    """Cosine and sine of every angle, shaped to broadcast over heads.

    Args:
        positions: absolute positions; −1 (padding) is harmless, for nobody sees that key.
        head_dim: D.
        theta: base of the frequencies.

    >>> cosine, sine = rotation(torch.tensor([[0, 1]]), head_dim=2, theta=10000.0)
    >>> cosine.flatten(), sine.flatten()
    (tensor([1.0000, 0.5403]), tensor([0.0000, 0.8415]))
    """
    frequencies = rope_frequencies(head_dim, theta).to(positions.device)
    angles = positions[:, None, :, None].float() * frequencies  # (B, T) → (B, 1, T, D/2)
    return angles.cos(), angles.sin()


def rotate_halves(
    x: Float[Tensor, "B H T D"],
    cosine: Float[Tensor, "B 1 T pairs"],
    sine: Float[Tensor, "B 1 T pairs"],
) -> Float[Tensor, "B H T D"]:
    """Rotate `x`, pairing channel i with channel i + D/2 (Hugging Face weights).

    >>> x = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    >>> rotate_halves(x, *rotation(torch.tensor([[1]]), 2, 10000.0)).flatten()
    tensor([0.5403, 0.8415])
    """
    first, second = x.float().chunk(2, dim=-1)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat(turned, dim=-1).to(x.dtype)


def rotate_pairs(
    x: Float[Tensor, "B H T D"],
    cosine: Float[Tensor, "B 1 T pairs"],
    sine: Float[Tensor, "B 1 T pairs"],
) -> Float[Tensor, "B H T D"]:
    """Rotate `x`, pairing channel 2i with channel 2i + 1 (original Mistral weights).

    >>> x = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 4)
    >>> rotate_pairs(x, *rotation(torch.tensor([[1]]), 4, 10000.0)).flatten()
    tensor([0.5403, 0.8415, 0.0000, 0.0000])
    """
    even, odd = x.float()[..., 0::2], x.float()[..., 1::2]
    turned = (even * cosine - odd * sine, odd * cosine + even * sine)
    return torch.stack(turned, dim=-1).flatten(-2).to(x.dtype)


def pairs_to_halves(weight: Float[Tensor, "out C"], heads: int) -> Float[Tensor, "out C"]:
    """Reorder a query or key projection from the original layout to Hugging Face's.

    Within each head, row 2i moves to row i and row 2i + 1 to row i + D/2.

    Args:
        weight: (heads · D, C), the projection as stored in `consolidated.00.pth`.
        heads: H for the query projection, Hkv for the key projection.

    >>> pairs_to_halves(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), heads=1).flatten()
    tensor([0., 2., 1., 3.])
    """
    rows, columns = weight.shape
    paired = weight.view(heads, rows // heads // 2, 2, columns)  # (H·D, C) → (H, D/2, 2, C)
    return paired.transpose(1, 2).reshape(rows, columns)


def halves_to_pairs(weight: Float[Tensor, "out C"], heads: int) -> Float[Tensor, "out C"]:
    """The inverse of `pairs_to_halves`.

    >>> halves_to_pairs(torch.tensor([[0.0], [2.0], [1.0], [3.0]]), heads=1).flatten()
    tensor([0., 1., 2., 3.])
    """
    rows, columns = weight.shape
    halved = weight.view(heads, 2, rows // heads // 2, columns)  # (H·D, C) → (H, 2, D/2, C)
    return halved.transpose(1, 2).reshape(rows, columns)
