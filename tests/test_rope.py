"""Rotation: scores depend on distance only, the two layouts agree once weights are permuted."""

import torch

from mistral_edu.rope import (
    halves_to_pairs,
    pairs_to_halves,
    rope_frequencies,
    rotate_halves,
    rotate_pairs,
    rotation,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_frequencies_follow_the_formula():
    found = rope_frequencies(8, theta=10000.0)
    assert torch.allclose(found, torch.tensor([10000.0 ** (-2 * i / 8) for i in range(4)]))


def test_rotation_by_halves_is_multiplication_by_a_complex_number():
    x, positions = random(1, 2, 5, 8), torch.tensor([[0, 1, 2, 50, 4097]])
    cosine, sine = rotation(positions, 8, 10000.0)
    as_complex = torch.complex(x[..., :4], x[..., 4:]) * torch.complex(cosine, sine)
    expected = torch.cat([as_complex.real, as_complex.imag], dim=-1)
    assert torch.allclose(rotate_halves(x, cosine, sine), expected, atol=1e-6)


def test_a_score_depends_on_the_distance_only():
    q, k = random(1, 1, 1, 16), random(1, 1, 1, 16, seed=1)

    def score(i, j):
        turned = (
            rotate_halves(x, *rotation(torch.tensor([[p]]), 16, 10000.0))
            for x, p in ((q, i), (k, j))
        )
        return (next(turned) * next(turned)).sum().item()

    assert abs(score(7, 3) - score(1007, 1003)) < 1e-3
    assert abs(score(7, 3) - score(7, 4)) > 1e-2


def test_permuted_weights_with_halves_score_as_raw_weights_with_pairs():
    heads, head_dim, hidden = 3, 8, 12
    raw_q, raw_k = random(heads * head_dim, hidden), random(heads * head_dim, hidden, seed=1)
    x = random(1, 6, hidden, seed=2)
    turn = rotation(torch.arange(6)[None], head_dim, 10000.0)

    def scores(weights, rotate):
        q, k = (
            rotate((x @ w.T).unflatten(-1, (heads, head_dim)).transpose(1, 2), *turn)
            for w in weights
        )
        return q @ k.mT

    raw = scores((raw_q, raw_k), rotate_pairs)
    permuted = (pairs_to_halves(raw_q, heads), pairs_to_halves(raw_k, heads))
    assert torch.allclose(scores(permuted, rotate_halves), raw, atol=1e-4)
    assert not torch.allclose(scores((raw_q, raw_k), rotate_halves), raw, atol=1e-1)


def test_the_permutation_has_an_inverse():
    weight = random(24, 5)
    assert torch.equal(halves_to_pairs(pairs_to_halves(weight, 3), 3), weight)


def test_angles_stay_exact_in_half_precision():
    x = torch.ones(1, 1, 2, 4, dtype=torch.bfloat16)
    turned = rotate_halves(x, *rotation(torch.tensor([[4096, 4097]]), 4, 10000.0))
    assert turned.dtype == torch.bfloat16
    assert (turned[:, :, 0] - turned[:, :, 1]).abs().max() > 0.1, "positions 4096 and 4097 differ"


def test_positions_far_past_any_table_work():
    cosine, sine = rotation(torch.tensor([[10_000_000]]), 4, 10000.0)
    assert torch.allclose(cosine**2 + sine**2, torch.ones_like(cosine), atol=1e-6)
