"""Muon: PyTorch's own in bfloat16, and in float32 where that one cannot go."""

import pytest
import torch
from torch import nn

from mistral_edu.training.muon import Muon, orthogonalized

SHAPES = ((12, 20), (20, 12), (16, 16), (1, 5))


def matrices():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def after(optimizer, parameters, steps=4):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def test_in_bfloat16_it_is_pytorch_s_own_to_the_bit():
    ours, theirs = matrices(), matrices()
    one = after(Muon(ours, 0.02, 0.1, torch.bfloat16), ours)
    other = after(torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1), theirs)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_in_float32_it_differs_by_bfloat16_s_rounding_alone():
    ours, theirs, start = matrices(), matrices(), matrices()
    one = after(Muon(ours, 0.02, 0.0), ours, steps=1)
    other = after(torch.optim.Muon(theirs, lr=0.02, weight_decay=0.0), theirs, steps=1)
    for a, b, before in zip(one, other, start, strict=True):
        moved = (b - before).norm()
        assert 0 < (a - b).norm() < 0.05 * moved


@pytest.mark.parametrize("shape", SHAPES)
def test_every_direction_is_moved_by_about_as_much(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert ((values > 0.6) & (values < 1.3)).all()
    turned = orthogonalized(matrix.T)
    torch.testing.assert_close(turned, orthogonalized(matrix).T)


def test_the_number_of_workers_changes_no_bit():
    alone, together = matrices(), matrices()
    one = after(Muon(alone, 0.02, 0.1, workers=1), alone)
    other = after(Muon(together, 0.02, 0.1, workers=3), together)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_matrix_without_a_gradient_stays():
    still, moved = matrices()[:2]
    moved.grad = torch.ones_like(moved)
    before = still.detach().clone()
    Muon([still, moved], 0.1, 0.1).step()
    assert torch.equal(still, before)
