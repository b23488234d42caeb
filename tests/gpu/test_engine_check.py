"""The kit's check of the engine, on a CPU: it passes, and it fails when the engine is wrong."""

import pytest
import torch

from tests.gpu import engine_check
from tests.gpu.backends_check import TYPES
from tests.gpu.steps import PartFailed, Setting


def setting(seed=0):
    return Setting(out=None, device="cpu", small=True, seed=seed)


@pytest.mark.parametrize("name", engine_check.parts(setting()))
def test_the_engine_passes_on_a_cpu(name):
    found = engine_check.parts(setting())[name]()
    assert 0 < found["unrecorded"] <= found["bound"]
    assert found.get("generate_agrees", True) and found.get("sampling_agrees", True)


def test_texts_are_ragged_their_rings_fill_and_wrap_and_the_seed_decides():
    model = engine_check.fresh_model(setting())
    texts, mask = engine_check.fresh_texts(setting(), model, 8)
    lengths = mask.sum(dim=1) - engine_check.STEPS
    assert lengths.min() < engine_check.WINDOW < lengths.max() == engine_check.LONGEST
    assert engine_check.STEPS > 2 * engine_check.WINDOW
    assert not torch.equal(texts, engine_check.fresh_texts(setting(1), model, 8)[0])
    other = engine_check.fresh_model(setting(1))
    assert not torch.equal(other.lm_head.weight, model.lm_head.weight)


class OneKeyTooMany(engine_check.Engine):
    """An engine with the window W + 1."""

    def __init__(self, model, batch_size, **options):
        wider = model.config.changed(sliding_window=model.config.sliding_window + 1)
        wrong = engine_check.MistralForCausalLM(wider).to(model.device, model.dtype).eval()
        wrong.load_state_dict(model.state_dict())
        super().__init__(wrong, batch_size, **options)


class Deaf(engine_check.Engine):
    """An engine that is right until it makes a step."""

    def step(self, ids):
        return super().step(ids.flip(0))


@pytest.mark.parametrize("wrong", [OneKeyTooMany, Deaf])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_wrong_engine_fails(monkeypatch, wrong, dtype):
    monkeypatch.setattr(engine_check, "Engine", wrong)
    with pytest.raises(PartFailed, match="not what the oracle says"):
        engine_check.check(setting(), "sdpa", dtype, 8)


@pytest.mark.parametrize("drawn", [False, True])
def test_other_choices_fail(monkeypatch, drawn):
    generate = engine_check.Engine.generate

    def other(engine, ids, mask, **options):
        right = generate(engine, ids, mask, **options)
        return right * 0 if options.get("do_sample", False) == drawn else right

    monkeypatch.setattr(engine_check.Engine, "generate", other)
    with pytest.raises(PartFailed, match="chooses other tokens"):
        engine_check.check(setting(), "sdpa", torch.float32, 1)
