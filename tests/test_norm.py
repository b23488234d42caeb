"""RMSNorm against its formula, in float32 and in half precision."""

import torch

from mistral_edu.norm import RMSNorm, rms_norm


def test_the_norm_follows_its_formula():
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    weight = torch.arange(1.0, 9.0)
    expected = x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * weight
    assert torch.allclose(rms_norm(x, weight, eps=0.1), expected, atol=1e-6)


def test_the_mean_square_is_taken_in_float32():
    x = torch.full((1, 8), 300.0, dtype=torch.float16)  # 300² overflows float16
    norm = RMSNorm(8, eps=1e-5).half()
    assert torch.equal(norm(x), torch.ones(1, 8, dtype=torch.float16))


def test_the_cast_comes_before_the_weight():
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    weight = torch.linspace(0.5, 1.5, 32).bfloat16()
    normal = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-5)
    cast_first, cast_last = weight * normal.bfloat16(), (weight.float() * normal).bfloat16()
    assert not torch.equal(cast_first, cast_last), "the order must matter for this input"
    assert torch.equal(rms_norm(x, weight, 1e-5), cast_first)


def test_the_printed_layer_names_its_width_and_eps():
    assert repr(RMSNorm(8, eps=1e-5)) == "RMSNorm(8, eps=1e-05)"
