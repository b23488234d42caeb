"""Ways to multiply: the same sum in each, and the one taken is the one that was asked for."""

import pytest
import torch

from mistral_edu import engine_ways
from mistral_edu.engine import Engine
from mistral_edu.engine_ways import ChosenProduct, fastest, product_for, ways_for
from mistral_edu.quantization import quantize_linear
from tests.models import difference, random_ids, small_model

WAYS = ways_for(torch.zeros(1, 1))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [1, 2, 8, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_gives_the_same_product(way, rows, dtype):
    weight, x = torch.randn(33, 20).to(dtype), torch.randn(rows, 1, 20).to(dtype)
    found = product_for(weight, way)(x)
    assert found.shape == (rows, 1, 33) and found.dtype == dtype
    bound = 1e-5 if dtype == torch.float32 else 1e-2
    assert difference(found.float(), x.float() @ weight.float().T) <= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_way_multiplies_8_bit_weights_with_their_steps(dtype):
    layer = quantize_linear(torch.nn.Linear(64, 24, bias=False))
    x = (10 * torch.randn(3, 64)).to(dtype)
    exact = x.double() @ layer.dequantized().double().T
    for way in ways_for(layer.weight):
        found = product_for(layer, way)(x)
        assert found.dtype == dtype
        assert difference(found.double(), exact) <= (1e-6 if dtype == torch.float32 else 1e-2)


def test_sums_of_8_bit_codes_do_not_overflow_half_precision():
    layer = quantize_linear(torch.nn.Linear(4096, 2, bias=False))
    layer.weight.fill_(127)
    for way in ways_for(layer.weight):
        assert product_for(layer, way)(torch.ones(1, 4096).half()).isfinite().all()


def test_more_rows_than_were_measured_are_multiplied_plainly(monkeypatch):
    seen = []
    monkeypatch.setattr(
        engine_ways, "product_for", lambda matrix, way: lambda x: seen.append((way, len(x))) or x
    )
    chosen = ChosenProduct(torch.ones(4, 3), rows=2, multiply="swapped")
    for rows in (1, 2, 3, 100):
        chosen(torch.ones(rows, 3))
    assert seen == [("swapped", 1), ("swapped", 2), ("plain", 3), ("plain", 100)]


@pytest.mark.parametrize("slow", WAYS)
def test_a_way_that_is_slow_here_is_not_taken(monkeypatch, slow):
    clock = [0.0]

    def product(matrix, way):
        def run(x):
            clock[0] += 2.0 if way == slow else 1.0

        return run

    monkeypatch.setattr(engine_ways.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(engine_ways, "product_for", product)
    found = fastest.__wrapped__((4, 4), torch.float32, 1, 1)
    assert found == ("swapped" if slow == "plain" else "plain")


def test_a_simpler_way_stays_unless_another_is_clearly_faster(monkeypatch):
    clock, seconds = [0.0], {"plain": 1.0, "swapped": 0.96, "compiled": 0.94}

    def product(matrix, way):
        def run(x):
            clock[0] += seconds[way]

        return run

    monkeypatch.setattr(engine_ways.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(engine_ways, "product_for", product)
    expected = "compiled" if "compiled" in WAYS else "plain"
    assert fastest.__wrapped__((4, 4), torch.float32, 1, 1) == expected


def test_measuring_takes_little_memory_and_at_least_one_matrix():
    assert engine_ways._copies((2**20, 2**10), torch.float32) == 1
    assert engine_ways._copies((1024, 1024), torch.float32) == 16
    assert engine_ways._copies((4096, 4096), torch.bfloat16) == 2


def test_a_way_that_cannot_be_had_names_those_that_can():
    model = small_model()
    with pytest.raises(ValueError, match="multiply='packed' cannot be had .*measured or one of"):
        Engine(model, multiply="packed")
    with pytest.raises(ValueError, match="multiply='compiled'.* not float64; choose"):
        Engine(model.double(), multiply="compiled")


@pytest.mark.parametrize("way", WAYS)
def test_an_engine_says_how_it_multiplies(way):
    ways = Engine(small_model(), multiply=way).ways
    assert ways.pop("step") == ("compiled" if way == "compiled" else "plain")
    assert set(ways.values()) == {way} and len(ways) == (1 if way == "compiled" else 5)
    assert set(Engine(small_model()).ways.values()) <= set(WAYS)


def test_what_was_not_measured_on_this_device_is_plain():
    chosen = ChosenProduct(torch.zeros(2, 2, device="meta"), rows=1)
    assert chosen.way == "plain" and ways_for(torch.zeros(1, 1, device="meta")) == ["plain"]
    assert chosen(torch.zeros(1, 2, device="meta")).shape == (1, 2)


@pytest.mark.parametrize("way", WAYS)
def test_an_engine_continues_alike_whatever_the_way(way):
    model = small_model()
    ids = random_ids(model, 3, 5)
    expected = model.generate(ids, max_new_tokens=9, eos_token_id=())
    found = Engine(model, 3, multiply=way).generate(ids, max_new_tokens=9, eos_token_id=())
    assert torch.equal(found, expected)
