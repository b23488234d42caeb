"""The compiled product: right for every number of rows and columns, or absent with a reason."""

import shutil
import subprocess
import sys

import pytest
import torch

from mistral_edu import engine_kernel
from mistral_edu.engine_kernel import CompiledProduct, why_uncompiled
from tests.models import difference

uncompiled = why_uncompiled(torch.zeros(1, 1))
needs_compiler = pytest.mark.skipif(uncompiled is not None, reason=str(uncompiled))
TYPES = [torch.float32, torch.bfloat16, torch.int8]


def random_weight(dtype, outs, ins):
    if dtype == torch.int8:
        return torch.randint(-127, 128, (outs, ins), dtype=dtype)
    return torch.randn(outs, ins).to(dtype)


@needs_compiler
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 9, 11, 16, 23])
def test_the_product_is_exact_for_any_number_of_rows(dtype, rows):
    weight, x = random_weight(dtype, 32, 48), torch.randn(rows, 1, 48)
    found = CompiledProduct(weight)(x)
    assert found.shape == (rows, 1, 32) and found.dtype == torch.float32
    assert difference(found, x @ weight.float().T) <= 1e-6


@needs_compiler
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ins", [1, 7, 8, 15, 16, 17, 33])
@pytest.mark.parametrize("outs", [1, 3, 4, 5, 10, 21])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 11])
def test_the_product_is_exact_for_sizes_that_no_register_divides(dtype, ins, outs, rows):
    weight, x = random_weight(dtype, outs, ins), torch.randn(rows, ins)
    off = CompiledProduct(weight)(x) - x.double() @ weight.double().T
    # Of all that is summed, not of the sum: that may be next to nothing.
    assert (off.abs() <= 1e-6 * (x.abs() @ weight.float().abs().T)).all()


@needs_compiler
@pytest.mark.parametrize("rows", [4, 5, 8, 9, 16, 23])
@pytest.mark.parametrize("ins", [32, 64, 96, 1024])
@pytest.mark.parametrize("outs", [15, 16, 17, 48])
def test_sizes_that_fit_a_matrix_unit_lose_nothing_of_x(rows, ins, outs):
    torch.manual_seed(0)
    weight, x = torch.randn(outs, ins).bfloat16(), torch.randn(rows, ins)
    exact = x.double() @ weight.double().T
    assert difference(CompiledProduct(weight).sums(x), exact) <= 2e-5  # x rounded once: 2e-3


@needs_compiler
def test_half_precision_is_summed_in_float32_and_rounded_once():
    weight, x = torch.randn(40, 3000).bfloat16(), torch.randn(3, 3000).bfloat16()
    exact = x.double() @ weight.double().T
    product = CompiledProduct(weight)
    assert difference(product.sums(x), exact) <= 1e-6
    assert product(x).dtype == torch.bfloat16
    assert torch.equal(product(x), product.sums(x).bfloat16())


@needs_compiler
def test_weights_changed_in_place_are_followed_and_views_of_x_are_understood():
    weight, x = torch.randn(8, 16), torch.randn(16, 6).T
    product = CompiledProduct(weight)
    weight.mul_(2)
    assert difference(product(x), x @ weight.T) <= 1e-6
    gaps = torch.randn(8, 32)[:, ::2]
    assert difference(CompiledProduct(gaps)(x), x @ gaps.T) <= 1e-6


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "rows"), [(torch.float32, 3), (torch.bfloat16, 8)])
def test_any_number_of_threads_gives_the_same_bits(threads, dtype, rows):
    weight, x = torch.randn(37, 64).to(dtype), torch.randn(rows, 64)
    before = torch.get_num_threads()
    product = CompiledProduct(weight)
    try:
        torch.set_num_threads(1)
        expected = product(x)
        torch.set_num_threads(threads)
        assert torch.equal(product(x), expected)
    finally:
        torch.set_num_threads(before)


def test_damage_in_the_weights_comes_through():
    if uncompiled:
        pytest.skip(uncompiled)
    weight = torch.ones(5, 16)
    weight[2, 3] = torch.nan
    found = CompiledProduct(weight)(torch.ones(1, 16))
    assert found.isnan().tolist() == [[False, False, True, False, False]]


@needs_compiler
@pytest.mark.parametrize("damage", [torch.nan, torch.inf])
@pytest.mark.parametrize("rows", [1, 8])
def test_damage_in_a_row_of_x_comes_through_in_no_other_row(damage, rows):
    x = torch.ones(rows, 64)
    x[-1, 5] = damage
    found = CompiledProduct(torch.ones(32, 64).bfloat16()).sums(x)
    assert not found[-1].isfinite().any() and found[:-1].eq(64).all()


@pytest.fixture
def freshlibrary():
    engine_kernel.library.cache_clear()
    yield
    engine_kernel.library.cache_clear()


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("/nowhere/c++", "No such file"), ("false", "false failed"), ("true", "cannot open")],
)
def test_without_a_working_compiler_there_is_a_reason(freshlibrary, monkeypatch, compiler, reason):
    monkeypatch.setenv("CXX", compiler)
    assert reason in why_uncompiled(torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"there is no compiled product: .*use functional.linear"):
        CompiledProduct(torch.zeros(1, 1))


def test_a_machine_without_a_compiler_is_told_how_to_get_one(freshlibrary, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    said = why_uncompiled(torch.zeros(1, 1))
    assert said.startswith("no C++ compiler found; one (for example `apt install g++`)")
    assert said.endswith("nothing needs it")
    engine_kernel.library.cache_clear()
    monkeypatch.setattr(sys, "platform", "plan9")
    assert "needs Linux, and this is plan9" in why_uncompiled(torch.zeros(1, 1))


def test_a_compiler_that_hangs_is_given_up(freshlibrary, monkeypatch):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setenv("CXX", "c++")
    monkeypatch.setattr(subprocess, "run", hang)
    assert "timed out after 60 seconds" in why_uncompiled(torch.zeros(1, 1))


def test_what_the_loop_does_not_know_is_named():
    assert "not float16" in why_uncompiled(torch.zeros(1, 1).half())
    assert "the weight is on meta" in why_uncompiled(torch.zeros(1, 1, device="meta"))
