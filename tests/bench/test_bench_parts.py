"""The parts of a measurement: turns, figures, costs, bytes, and each way to run the model."""

import json
import sys
import types

import pytest
import torch

from mistral_edu import MistralForCausalLM
from mistral_edu.bench import ceilings, costs, loading, measures, memory, results, roster, sizes
from mistral_edu.bench.agreement import compare
from mistral_edu.bench.ceilings import Ceilings
from mistral_edu.bench.measures import Bench, Plan
from mistral_edu.bench.mistral_inference_peer import MistralInferenceSession, original_folder
from mistral_edu.bench.ours import EngineSession, PlainSession
from mistral_edu.bench.peers import Material
from mistral_edu.bench.results import Case, rows_of
from mistral_edu.bench.timing import Block, Spread, Work, interleaved, timed
from mistral_edu.engine import Engine
from tests.bench_fakes import WrongSession, opened_by
from tests.models import small_config, small_model

CPU = torch.device("cpu")

# ── turns ───────────────────────────────────────────────────────────────────────────────────────


def recorded(names, rounds, discarded):
    done = []
    work = {
        name: Work(lambda name=name: done.append(name), lambda name=name: done.append(f"({name})"))
        for name in names
    }
    return done, interleaved(work, rounds, discarded=discarded)


def test_peers_take_turns_block_by_block_and_each_begins_a_round():
    done, _ = recorded("abc", rounds=2, discarded=1)
    order = [name for name in done if len(name) == 1]
    assert "".join(order) == "abcbcacab"


def test_the_warm_up_comes_right_before_each_block():
    done, _ = recorded("ab", rounds=1, discarded=0)
    assert done == ["(a)", "a", "(b)", "b"]


def test_discarded_rounds_do_not_count():
    done, found = recorded("ab", rounds=3, discarded=2)
    assert {name: len(blocks) for name, blocks in found.items()} == {"a": 3, "b": 3}
    assert sum(name == "a" for name in done) == 5


def test_the_device_is_waited_for_before_and_after_the_clock():
    done = []
    timed(Work(lambda: done.append("run"), lambda: done.append("warm")), lambda: done.append("|"))
    assert done == ["warm", "|", "run", "|"]


def test_others_are_what_was_busy_and_not_ours(monkeypatch):
    from mistral_edu.bench import timing

    before = timing._Usage(wall=0.0, busy=10.0, own=3.0)
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 2)
    # In 4 seconds of 2 cores 7 were busy, 5 of them ours: 2 of 8 went elsewhere.
    assert timing._Usage(4.0, 17.0, 8.0).others_since(before) == 0.25
    assert timing._Usage(4.0, 12.0, 9.0).others_since(before) == 0.0
    short = timing._Usage(before.wall + 0.01, before.busy + 0.02, before.own)
    assert short.others_since(before) == 0.0  # a clock of hundredths tells nothing of it


# ── figures ─────────────────────────────────────────────────────────────────────────────────────


def spread(*values):
    return Spread.of_blocks([Block(value, 0.1) for value in values], lambda seconds: seconds)


def test_ratios_come_from_medians_and_say_how_many_times_better():
    found = {"transformers": spread(1, 10, 100), "plain": spread(5, 20, 21)}
    case = Case(torch.float32, 1, 32)
    rate = {row["peer"]: row for row in rows_of(results.DECODE, case, found, limit=40)}
    assert (rate["plain"]["ratio"], rate["transformers"]["ratio"]) == (2.0, 1.0)
    assert (rate["plain"]["of_limit"], rate["transformers"]["of_limit"]) == (0.5, 0.25)
    assert (rate["plain"]["low"], rate["plain"]["high"], rate["plain"]["blocks"]) == (5, 21, 3)
    time = {row["peer"]: row for row in rows_of(results.PER_TOKEN, case, found, limit=5)}
    assert time["plain"]["ratio"] == 0.5 and time["plain"]["of_limit"] == 0.25


def test_without_the_baseline_the_first_peer_is_one():
    found = {"engine": spread(4), "plain": spread(2)}
    rows = rows_of(results.DECODE, Case(torch.float32, 1, 32), found)
    assert [row["ratio"] for row in rows] == [1.0, 0.5]
    assert rows[0]["limit"] is None and rows[0]["of_limit"] is None


def test_who_attends_to_everything_past_the_window_is_marked():
    found = {"llama.cpp": spread(1), "plain": spread(1)}
    for tokens, marked in ((4, False), (8, True)):
        rows = rows_of(results.DECODE, Case(torch.float32, 1, tokens, window=8), found)
        assert [bool(row["note"]) for row in rows] == [marked, False]


def test_falling_values_keep_low_below_high():
    found = measures._each(Spread(2.0, 1.0, 4.0, 3), lambda seconds: 8 / seconds)
    assert (found.median, found.low, found.high) == (4.0, 2.0, 8.0)


# ── costs ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tied", [False, True])
def test_bytes_of_a_step_are_every_weight_that_takes_part(tied):
    model = small_model(tie_word_embeddings=tied)
    read = sum(p.numel() for name, p in model.named_parameters() if "embed_tokens" not in name)
    read += model.lm_head.weight.numel() if tied else 0
    pairs = 2 * 2 * 2 * 8  # keys and values, layers, heads, D
    for context, seen in ((3, 3), (4, 4), (9, 4)):
        expected = 2 * read + 5 * pairs * seen * 2
        assert costs.step_bytes(model.config, 5, context, torch.bfloat16) == expected


def test_operations_of_a_prompt_count_what_each_token_sees():
    config = small_config(sliding_window=4)
    more = costs.prompt_operations(config, 10) - costs.prompt_operations(config, 9)
    assert more == 2 * costs.body_parameters(config) + 4 * 2 * 4 * 8 * 4  # L, H, D, and W seen
    early = costs.prompt_operations(config, 3) - costs.prompt_operations(config, 2)
    assert early == 2 * costs.body_parameters(config) + 4 * 2 * 4 * 8 * 3


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────


def test_a_storage_counts_once_and_whole():
    whole = torch.zeros(4, 100)
    assert memory.bytes_held([whole[:, -2:], whole[:1], whole]) == 1600
    assert memory.bytes_held([whole[:, -2:].clone(), torch.zeros(3)]) == 32 + 12


def test_the_peak_of_a_process_rises_with_what_it_allocates():
    before = memory.peak_of_process()
    block = torch.ones(30 * 2**20, dtype=torch.uint8) + 1
    # Other tests may have reached higher before; then this one is well below their peak.
    assert memory.peak_of_process() >= before and block.sum() > 0
    assert before > 50 * 2**20


# ── the limits, and the weights ─────────────────────────────────────────────────────────────────


def test_limits_are_rates_of_what_was_done(monkeypatch):
    monkeypatch.setattr(ceilings, "LARGE", {"cpu": 4100})  # one row and something over
    monkeypatch.setattr(ceilings, "SIDE", {"cpu": 10})
    monkeypatch.setattr(
        ceilings, "interleaved", lambda work, *_: {name: [Block(2.0, 0.0)] for name in work}
    )
    found = ceilings.measure([torch.float32], CPU)
    assert found.read.median == 2048 and found.copy.median == 4096
    assert found.matmul["float32"].median == 1000


def test_the_limit_of_reading_is_the_better_of_two_ways(monkeypatch):
    seconds = {ceilings.READ: 2.0, ceilings.READ_BY_PRODUCT: 1.0}

    def both(work, *_):
        for each in work.values():
            each.run()
        return {name: [Block(seconds.get(name, 4.0), 0.0)] for name in work}

    monkeypatch.setattr(ceilings, "LARGE", {"cpu": 4 * 3000})  # two rows and something over
    monkeypatch.setattr(ceilings, "SIDE", {"cpu": 10})
    monkeypatch.setattr(ceilings, "interleaved", both)
    by_product = ceilings.why_uncompiled(torch.zeros(1)) is None
    assert ceilings.measure([], CPU).read.median == (8192 if by_product else 4096)
    monkeypatch.setattr(ceilings, "why_uncompiled", lambda x: "no compiler")
    assert ceilings.measure([], CPU).read.median == 4096


def test_elsewhere_than_on_a_cpu_three_ways_of_reading_try():
    assert list(ceilings.ways_to_read(torch.ones(2, 4, device="meta"))) == [
        *(ceilings.READ, ceilings.READ_BY_MAXIMUM, ceilings.READ_BY_VECTOR),
    ]


def test_both_types_hold_the_same_random_model(tmp_path, monkeypatch):
    monkeypatch.setitem(sizes.SIZES, "toy", small_config)
    models = []
    for dtype in (torch.float32, torch.bfloat16):
        sizes.write_weights("toy", tmp_path / str(dtype), dtype, CPU)
        models.append(MistralForCausalLM.from_pretrained(tmp_path / str(dtype)))
    full, half = (dict(model.named_parameters()) for model in models)
    for name, weight in full.items():
        assert torch.equal(weight.bfloat16(), half[name]), name
    assert full["model.norm.weight"].eq(1).all()
    assert float(full["lm_head.weight"].detach().std()) == pytest.approx(0.3, rel=0.1)


# ── every way to run the model ──────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A small random model on disk."""
    folder = tmp_path_factory.mktemp("bench")
    small_model(sliding_window=8).save_pretrained(folder / "small")
    return Material(folder / "small", torch.float32, CPU, 1, folder)


@pytest.mark.parametrize("name", [peer.name for peer in roster.PEERS])
def test_a_peer_computes_what_the_plain_model_does(material, name):
    peer = roster.peer_named(name)
    reason = peer.why_absent(CPU, torch.float32)
    if reason:
        pytest.skip(reason)
    if peer.on_request:
        pytest.skip("it is compiled first, which takes a minute")
    peer.prepare(material)
    opened, reference = peer.open(material), roster.peer_named("plain").open(material)
    (found,) = compare({name: (peer, opened)}, reference, material.config, CPU, torch.float32)
    opened.close()
    assert found.difference <= 1e-5


def test_the_same_through_a_static_cache_that_is_not_compiled(material, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, mode=None: model)
    peer = roster.peer_named("transformers-compiled")
    if reason := peer.why_absent(CPU, torch.float32):
        pytest.skip(reason)
    reference = roster.peer_named("plain").open(material)
    peers = {"compiled": (peer, peer.open(material))}
    (found,) = compare(peers, reference, material.config, CPU, torch.float32)
    assert found.difference <= 1e-5


def test_a_long_prompt_taken_in_by_pieces_scores_the_same(material, monkeypatch):
    from mistral_edu.bench import ours, transformers_peer

    ids = torch.randint(3, 64, (2, 23))
    expected = small_model(sliding_window=8)(ids).logits[:, -1]
    for module in (ours, transformers_peer):
        monkeypatch.setattr(module, "PROMPT_CHUNK", 5)
    for name in ("plain", "transformers"):
        peer = roster.peer_named(name)
        if peer.why_absent(CPU, torch.float32) is None:
            session = peer.open(material).session(2, 32)
            session.start(ids)
            assert torch.allclose(session.logits(), expected, atol=1e-4), name


def test_a_new_text_owes_nothing_to_the_one_before():
    model = small_model()
    for session in (PlainSession(model), EngineSession(Engine(model))):
        session.start(torch.tensor([[5, 6, 7]]))
        first = session.logits()
        session.step(torch.tensor([9]))
        assert not torch.equal(session.logits(), first)
        session.start(torch.tensor([[5, 6, 7]]))
        assert torch.equal(session.logits(), first)


def test_what_transformers_keeps_alive_after_a_prompt_is_counted(material):
    peer = roster.peer_named("transformers")
    if reason := peer.why_absent(CPU, torch.float32):
        pytest.skip(reason)
    session = peer.open(material).session(1, 64)
    session.start(torch.randint(3, 64, (1, 40)))
    a_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, D, bytes
    assert session.cache_bytes() == 40 * a_token  # W = 8: the slice of seven keeps all 40 alive
    session.step(torch.tensor([5]))
    assert session.cache_bytes() == 8 * a_token


# ── a fresh process ─────────────────────────────────────────────────────────────────────────────


def test_loading_is_watched_step_by_step(material):
    found = loading.watch("plain", material, prompt=8)
    assert 0 < found["ready"] < found["first token"]
    assert found["peak"] >= found["loading peak"] >= 0


def test_a_fresh_process_gets_the_task_and_its_report_is_read(material, monkeypatch):
    asked = []

    class Done:
        returncode, stderr = 0, ""
        stdout = 'noise\n{"ready": 1.5}\n'

    monkeypatch.setattr(
        loading.subprocess, "run", lambda command, **_: asked.append(command) or Done
    )
    assert loading.in_fresh_process("plain", material, 8) == {"ready": 1.5}
    task = json.loads(asked[0][-1])
    assert task["peer"] == "plain" and task["dtype"] == "float32" and task["prompt"] == 8
    assert asked[0][1:3] == ["-m", "mistral_edu.bench.loading"]


def test_a_process_that_fails_says_why(material):
    with pytest.raises(RuntimeError, match="loading nobody in a fresh process failed"):
        loading.in_fresh_process("nobody", material, 8)


# ── a peer that needs a GPU, over a stand-in ────────────────────────────────────────────────────


class FlatModel:
    """mistral-inference's interface: rows end to end, every token scored, over the plain model."""

    def __init__(self, model):
        config = model.config
        self.plain, self.device, self.dtype = model, CPU, torch.float32
        self.args = types.SimpleNamespace(
            n_layers=2, n_kv_heads=2, head_dim=8, max_batch_size=1, sliding_window=8
        )
        self.vocab_size = config.vocab_size

    def forward(self, flat, seqlens, cache):
        output = self.plain(flat.view(len(seqlens), -1), past_key_values=cache.past, use_cache=True)
        cache.past = output.past_key_values
        return output.logits.flatten(0, 1)


class FlatCache:
    """Its cache: tensors by layer, and `to`, `reset`."""

    def __init__(self, layers, batch, longest, heads, head_dim, window):
        shape = (batch, window, heads, head_dim)
        self.cache_k = {layer: torch.zeros(shape) for layer in range(layers)}
        self.cache_v = {layer: torch.zeros(shape) for layer in range(layers)}
        self.past = None

    def to(self, device, dtype):
        return self

    def reset(self):
        self.past = None


def test_mistral_inference_gets_rows_end_to_end_and_its_last_scores_are_read(monkeypatch):
    module = types.ModuleType("mistral_inference.cache")
    module.BufferCache = FlatCache
    monkeypatch.setitem(sys.modules, "mistral_inference", types.ModuleType("mistral_inference"))
    monkeypatch.setitem(sys.modules, "mistral_inference.cache", module)
    model = small_model(sliding_window=8)
    opened = opened_by(lambda *room: MistralInferenceSession(FlatModel(model), *room))
    peer = roster.peer_named("mistral-inference")
    reference = opened_by(lambda *_: PlainSession(model))
    peers = {peer.name: (peer, opened)}
    (found,) = compare(peers, reference, model.config, CPU, torch.float32)
    assert found.difference <= 1e-5
    assert opened.session(3, 64).cache_bytes() == 2 * 2 * 3 * 8 * 2 * 8 * 4
    with pytest.raises(ValueError, match="128,000"):
        opened.session(1, 128_001)


def test_its_weights_are_written_in_mistrals_own_layout_once(material):
    folder = original_folder(material)
    assert sorted(path.name for path in folder.iterdir())[0] == "consolidated.safetensors"
    before = (folder / "params.json").stat().st_mtime_ns
    assert original_folder(material) == folder
    assert (folder / "params.json").stat().st_mtime_ns == before


def test_the_memory_of_some_work_does_not_count_what_was_there_before():
    there = torch.ones(2**24)  # 64 MiB
    found = memory.extra_bytes(lambda: torch.ones(2**23).sum(), torch.device("cpu"))
    if found is None:
        pytest.skip("only Linux tells the peak of a process")
    assert there.sum() == 2**24 and 2**25 - 2**20 <= found <= 2**25 + 2**23
    again = memory.extra_bytes(lambda: there.sum(), torch.device("cpu"))
    assert again is not None and again <= 2**22


def test_a_peer_without_a_window_is_not_followed_to_the_far_end(monkeypatch):
    config, rate = small_config(sliding_window=4), Spread.of([1.0])
    limits = ceilings.Ceilings(rate, rate, {})
    peers = dict.fromkeys(("llama.cpp", "plain"), opened_by(lambda *_: WrongSession(config)))
    monkeypatch.setattr(measures, "FAR", 2)
    bench = measures.Bench(
        peers, config, torch.float32, torch.device("cpu"), limits, measures.Plan()
    )
    with bench.sessions(1, 20, bench.ids(1, 9)) as sessions:
        assert list(sessions) == ["plain"]
    assert [(one["peer"], "too many" in one["reason"]) for one in bench.failures] == [
        ("llama.cpp", True)
    ]


class Noted(WrongSession):
    """A session that writes down what it is asked."""

    def __init__(self, config, notes):
        super().__init__(config)
        self.notes, self.length = notes, 0

    def start(self, ids):
        self.length = ids.shape[1]
        self.notes.append(("start", self.length))

    def step(self, ids):
        self.notes.append(("step", self.length))

    def close(self):
        self.notes.append(("close", self.length))


def noting_bench(plan):
    """A bench of one peer, and the notes of its sessions."""
    config, notes, one = small_config(sliding_window=4), [], Spread.of([1.0])
    peer = opened_by(lambda batch, longest: Noted(config, notes))
    limits, device = Ceilings(one, one, {"float32": one}), torch.device("cpu")
    return Bench({"plain": peer}, config, torch.float32, device, limits, plan, str), notes


def test_the_lengths_of_a_curve_take_turns_and_each_session_has_its_own_prompt():
    bench, notes = noting_bench(Plan(windows=(1, 2, 3), rounds=2, steps=1, warm_up=0))
    found = measures.curve(bench)
    assert [row["tokens"] for row in found] == [4, 8, 12]
    assert notes[:3] == [("start", 4), ("start", 8), ("start", 12)]
    assert [length for _, length in notes[3:12]] == [4, 8, 12, 8, 12, 4, 12, 4, 8]
    assert [what for what, _ in notes[3:]] == ["step"] * 9 + ["close"] * 3


@pytest.mark.parametrize(("tokens", "blocks"), [(8, 5), (9, measures.FEW)])
def test_a_long_prompt_is_taken_in_less_often(monkeypatch, tokens, blocks):
    monkeypatch.setattr(measures, "USUAL", 8)
    bench, notes = noting_bench(Plan(prompts=(tokens,), rounds=5))
    (row,) = measures.prefill(bench, tokens)
    assert row["blocks"] == blocks and notes == [("start", tokens)] * (1 + blocks) + [
        ("close", tokens)
    ]
    assert bench.plan.usual == 8
