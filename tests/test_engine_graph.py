"""A step of the engine can be recorded: it does the same whatever is in the ring."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mistral_edu import engine_graph, engine_steps, flash_kernels
from mistral_edu.engine import Engine
from mistral_edu.generation_config import GenerationConfig
from mistral_edu.generation_request import prepare, restrain
from tests import flash_stand_in
from tests.models import difference, left_padded, random_ids, small_model
from tests.test_flash_attention import pretend_a_gpu


class Operations(TorchDispatchMode):
    """Every operation: its name, and the shape or value of all it was given."""

    def __init__(self):
        super().__init__()
        self.noted, self.devices = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        def plain(x):
            if isinstance(x, torch.Tensor):
                self.devices.add(x.device.type)
                return (tuple(x.shape), x.stride(), x.dtype)
            return [plain(part) for part in x] if isinstance(x, list | tuple) else x

        named = kwargs or {}
        self.noted.append((str(func), plain(args), plain(list(named.items()))))
        return func(*args, **named)


ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "aten.equal.")


def asks(name):
    """Whether Python must wait for the device to know the result, or its shape."""
    return any(word in name for word in ASKING)


def operations(engine, ids):
    with Operations() as seen, torch.no_grad():
        engine._passes.step(ids)
    engine._ring.count([1] * engine.batch_size)
    return seen.noted


def homes(holder):
    held = [x if isinstance(x, list) else [x] for x in vars(holder).values()]
    return [x.data_ptr() for x in sum(held, []) if isinstance(x, torch.Tensor)]


def test_a_static_step_does_the_same_operations_on_the_same_memory_at_any_fill():
    model = small_model()
    engine = Engine(model, 2)
    engine._passes.static = True
    engine.prefill(*left_padded([random_ids(model, 1, n)[0] for n in (1, 2)]))
    before = homes(engine._ring)
    ids = torch.tensor([3, 4])
    first, *later = [operations(engine, ids) for _ in range(7)]  # W = 4: it wraps
    assert len(first) > 20 and all(one == first for one in later)
    assert homes(engine._ring) == before and len(before) == 6  # keys and values of two layers
    assert not [name for name, *_ in first if asks(name)]


def test_a_step_that_chooses_does_the_same_operations_on_the_same_memory():
    model = small_model()
    engine = Engine(model, 2)
    engine._passes.static = True
    ids = random_ids(model, 2, 3)
    options = RULES | {"eos_token_id": (2,), "max_new_tokens": 12}
    step = engine.choosing_step(prepare(engine, ids, options=options).rules, ahead=4)
    step.begin(engine.prefill(ids), seen=torch.zeros(2, 64, dtype=torch.bool))
    noted, before = [], homes(step)
    for _ in range(11):  # past the fourth kept token, and past `min_new_tokens`
        with engine.advancing(), Operations() as seen:
            step()
        noted.append(seen.noted)
    assert len(noted[0]) > 50 and all(one == noted[0] for one in noted)
    assert homes(step) == before and len(before) == 8
    names = [name for name, *_ in noted[0]]
    assert not [name for name in names if asks(name) or "lift_fresh" in name]


RULES = {
    "do_sample": True,
    "temperature": 0.8,
    "top_k": 30,
    "top_p": 0.9,
    "min_p": 0.01,
    "repetition_penalty": 1.3,
    "min_new_tokens": 9,
    "seed": 1,
}


def test_a_step_that_chooses_stays_on_its_device():
    engine = Engine(small_model().to("meta"), 2, record=False)
    config = GenerationConfig(**RULES | {"seed": None, "eos_token_id": (2,)})
    step = engine.choosing_step(config, ahead=4)
    step.begin(torch.zeros(2, 64, device="meta"))
    with engine.advancing(), Operations() as seen:
        step()
    assert seen.devices == {"meta"} and len(seen.noted) > 50


@pytest.mark.parametrize("options", [{}, RULES])
def test_between_two_looks_nothing_waits_for_the_device(monkeypatch, options):
    model = small_model()
    engine = Engine(model, 2)
    engine._passes.static = True
    ids, mask = left_padded([random_ids(model, 1, n)[0] for n in (1, 3)])
    options = {"max_new_tokens": 12, "eos_token_id": (2,)} | options
    request = prepare(engine, ids, mask, options=options)
    fetched, same_texts = engine_steps._fetched, engine_steps._require_same_texts
    seen, found, counts = Operations(), [], [False]

    def noted(go_on):
        found.extend(seen.noted if counts[0] else [])
        seen.noted, counts[0] = [], go_on

    def begin(*given):
        noted(go_on=True)
        same_texts(*given)

    def look(*given):
        noted(go_on=False)
        yield from fetched(*given)

    monkeypatch.setattr(engine_steps, "_require_same_texts", begin)
    monkeypatch.setattr(engine_steps, "_fetched", look)
    with seen, torch.no_grad():
        assert len(list(engine_steps.steps(engine, request, look_every=4))) == 12
    names = [name for name, *_ in found]
    assert names.count("aten.embedding.default") >= 8
    assert not [name for name in names if asks(name)]


def test_the_eos_ids_are_sent_to_the_device_once():
    request = prepare(small_model(), torch.tensor([[5]]), options={"min_new_tokens": 9})
    there = replace(request, ids=request.ids.to("meta"))
    with Operations() as seen:
        for made in range(3):
            scores = torch.zeros(1, 64, device="meta")
            restrain(scores, there.config, there.ends_on_device, made, None)
    assert [name for name, *_ in seen.noted].count("aten._to_copy.default") == 1


def test_a_step_on_a_cpu_does_not_for_it_reads_the_filled_part_only():
    engine = Engine(small_model(), multiply="plain")
    first, second = (operations(engine, torch.tensor([3])) for _ in range(2))
    assert first != second


@pytest.fixture
def recorder(monkeypatch):
    """Recording without a GPU: warm up, run, and replay by running into the same tensor."""
    runs = []

    def record(function, device):
        assert device.type == "cpu"
        for _ in range(engine_graph.WARM_UPS):
            function()
        result = function()

        def replay():
            runs.append("replay")
            result.copy_(function())

        return replay, result

    monkeypatch.setattr(engine_graph, "record", record)
    return runs


def test_a_recorded_step_takes_ids_and_gives_scores_that_stay(recorder):
    place, table = torch.zeros(2, dtype=torch.long), torch.eye(4)
    step = engine_graph.RecordedStep(lambda ids: table[ids], place)
    first, second = step(torch.tensor([1, 2])), step(torch.tensor([3, 0]))
    assert first.argmax(dim=1).tolist() == [1, 2] and second.argmax(dim=1).tolist() == [3, 0]
    assert place.tolist() == [3, 0] and recorder == ["replay"] * 2


@pytest.mark.parametrize("flash", [False, True])
def test_an_engine_whose_step_was_recorded_begins_at_the_beginning(recorder, monkeypatch, flash):
    model = small_model()
    if flash:
        pretend_a_gpu(monkeypatch)
        kernels = flash_kernels.package_kernels(flash_stand_in)
        monkeypatch.setattr(flash_kernels, "find_kernels", lambda: (kernels, ""))
        model = small_model(attention="flash").to(torch.bfloat16)
    ids, mask = left_padded([random_ids(model, 1, n, seed=n)[0] for n in (2, 5)])
    engine = Engine(model, 2, record=True)
    with torch.no_grad():
        one = torch.tensor([3, 4])  # what recording left behind is gone
        expected = model(one[:, None], use_cache=False).logits[:, 0].float()
        assert difference(engine.step(one), expected) <= (3e-2 if flash else 1e-5)
        scores, text, seen = engine.prefill(ids, mask), ids, mask
        for _ in range(6):
            expected = model(text, attention_mask=seen, use_cache=False).logits[:, -1].float()
            assert difference(scores, expected) <= (3e-2 if flash else 1e-5)
            new = expected.argmax(dim=-1)
            text = torch.cat([text, new[:, None]], dim=1)
            seen = torch.cat([seen, torch.ones_like(new[:, None])], dim=1)
            scores = engine.step(new)
    assert len(recorder) == 7


def test_choosing_is_recorded_with_the_step_once_for_each_set_of_rules(recorder):
    model = small_model()
    ids, mask = left_padded([random_ids(model, 1, n, seed=n)[0] for n in (2, 5)])
    engine, ends = Engine(model, 2, record=True), {"eos_token_id": (), "max_new_tokens": 15}
    last = None
    for rules in ({}, RULES, RULES | {"seed": 2}, {"repetition_penalty": 1.2}, RULES):
        recorder.clear()
        found = engine.generate(ids, mask, **ends | rules)
        assert torch.equal(found, model.generate(ids, mask, **ends | rules))
        assert recorder == ["replay"] * 14  # the first token comes of the prompt
        assert (engine._choosing is last) == (rules.get("seed") == 2)
        last = engine._choosing


def test_texts_lost_to_a_recording_are_noticed(recorder):
    model = small_model()
    engine, ids = Engine(model, record=True), random_ids(model, 1, 3)
    stream = engine.stream(ids, max_new_tokens=40, eos_token_id=())
    next(stream)
    engine.choosing_step(prepare(engine, ids, options={"repetition_penalty": 2.0}).rules, ahead=1)
    with pytest.raises(RuntimeError, match="something else before these texts were read"):
        list(stream)
    expected = model(torch.tensor([[3]]), use_cache=False).logits[:, 0]
    assert difference(engine.step(torch.tensor([3])), expected) <= 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_the_replayed_engine_says_what_the_plain_model_says(dtype):
    model = small_model(attention="auto", head_dim=8).to("cuda", dtype)
    plain = small_model(head_dim=8)
    ids, mask = left_padded([random_ids(model, 1, n, seed=n)[0] for n in (2, 5, 11)])
    engine = Engine(model, 3, max_chunk=12)
    options = {"max_new_tokens": 20, "eos_token_id": ()}
    found = engine.generate(ids, mask, **options).cpu()
    if dtype == torch.float32:
        assert torch.equal(found, plain.generate(ids, mask, **options))
        drawn = engine.generate(ids, mask, **options | RULES).cpu()
        assert torch.equal(drawn, plain.generate(ids, mask, **options | RULES))
    with torch.no_grad():
        expected = plain(ids, attention_mask=mask).logits[:, -1]
    assert difference(engine.prefill(ids, mask).cpu(), expected) <= (
        1e-4 if dtype == torch.float32 else 3e-2
    )
