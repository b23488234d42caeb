"""The feed-forward block against its formula, with every activation."""

import pytest
import torch
from torch.nn import functional

from mistral_edu.feed_forward import ACTIVATIONS, FeedForward, activation
from tests.models import small_config


def block(**changes):
    torch.manual_seed(0)
    return FeedForward(small_config(**changes)), torch.randn(1, 2, 32)


def test_the_gate_decides_what_passes():
    forward, x = block()
    gate, up = x @ forward.gate_proj.weight.T, x @ forward.up_proj.weight.T
    expected = (gate * gate.sigmoid() * up) @ forward.down_proj.weight.T
    assert torch.allclose(forward(x), expected, atol=1e-6)
    assert all(linear.bias is None for linear in forward.children())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_name_means_what_it_means_in_transformers(name):
    from transformers.activations import ACT2FN

    z = torch.linspace(-4, 4, 101)
    assert torch.allclose(activation(name)(z), ACT2FN[name](z), atol=1e-6)


def test_a_function_serves_as_well_as_its_name():
    named, x = block(hidden_act="relu")
    given, _ = block(hidden_act=functional.relu)
    assert torch.equal(named(x), given(x))
    assert not torch.equal(named(x), block()[0](x))


def test_an_unknown_activation_is_named_with_the_choices():
    with pytest.raises(ValueError, match="hidden_act='tanhh' is unknown: choose one of .*'silu'"):
        FeedForward(small_config(hidden_act="tanhh"))
