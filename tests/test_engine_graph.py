"""A step of the engine can be recorded: it does the same whatever is in the ring."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mistral_edu import engine_graph, flash_kernels
from mistral_edu.engine import Engine
from tests import flash_stand_in
from tests.models import difference, left_padded, random_ids, small_model
from tests.test_flash_attention import pretend_a_gpu


class Operations(TorchDispatchMode):
    """Every operation: its name, and the shape or value of all it was given."""

    def __init__(self):
        super().__init__()
        self.noted = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        def plain(x):
            if isinstance(x, torch.Tensor):
                return (tuple(x.shape), x.stride(), x.dtype)
            return [plain(part) for part in x] if isinstance(x, list | tuple) else x

        named = kwargs or {}
        self.noted.append((str(func), plain(args), plain(list(named.items()))))
        return func(*args, **named)


def operations(engine, ids):
    with Operations() as seen, torch.no_grad():
        engine._passes.step(ids)
    engine._ring.count([1] * engine.batch_size)
    return seen.noted


def homes(ring):
    return [x.data_ptr() for x in (*ring.keys, *ring.values, ring.seen, ring.rows)]


def test_a_static_step_does_the_same_operations_on_the_same_memory_at_any_fill():
    model = small_model()
    engine = Engine(model, 2)
    engine._passes.static = True
    engine.prefill(*left_padded([random_ids(model, 1, n)[0] for n in (1, 2)]))
    before = homes(engine._ring)
    ids = torch.tensor([3, 4])
    first, *later = [operations(engine, ids) for _ in range(7)]  # W = 4: it wraps
    assert len(first) > 20 and all(one == first for one in later)
    assert homes(engine._ring) == before
    asking = ("_local_scalar_dense", "nonzero")
    assert not [name for name, *_ in first if any(word in name for word in asking)]


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
    with torch.no_grad():
        expected = plain(ids, attention_mask=mask).logits[:, -1]
    assert difference(engine.prefill(ids, mask).cpu(), expected) <= (
        1e-4 if dtype == torch.float32 else 3e-2
    )
