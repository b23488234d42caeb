"""A whole run on a toy: the record's shape, who is in it and who is not, and its figure."""

import json
from dataclasses import replace

import pytest
import torch

from mistral_edu import cli
from mistral_edu.bench import agreement, attendance, ours, report, roster, run, sizes
from mistral_edu.bench.ceilings import Ceilings
from mistral_edu.bench.measures import Bench, Plan
from mistral_edu.bench.peers import Chosen, Material, Peer, choose
from mistral_edu.bench.run import Settings
from mistral_edu.bench.timing import Spread
from mistral_edu.experiments.record import Row
from tests.bench_fakes import WrongSession, opened_by
from tests.models import small_config

CPU = torch.device("cpu")
PLAN = Plan(prompts=(8,), batches=(1, 2), windows=(1, 2), rounds=1, steps=2, warm_up=1, starts=1)
KEYS = {
    "quantity",
    "unit",
    "dtype",
    "batch",
    "tokens",
    "state",
    "peer",
    "ratio",
    "median",
    "low",
    "high",
    "blocks",
    "limit",
    "of_limit",
    "others",
    "note",
}
LOADED = {"ready": 1.0, "first token": 2.0, "loading peak": 10, "peak": 20}


def absent(device, dtype):
    return "there is none here"


def wrong(material):
    return opened_by(lambda batch, longest: WrongSession(material.config))


def broken(material):
    raise OSError("no such weights")


PEERS = (
    *ours.PEERS,
    Peer("absent", absent, ours.Plain, "no-such-package"),
    Peer("wrong", lambda device, dtype: None, wrong),
    Peer("broken", lambda device, dtype: None, broken),
    Peer("slow", lambda device, dtype: None, ours.Plain, on_request=True),
)


@pytest.fixture(scope="module")
def measured():
    """A run over two types with peers of every fate; processes are not started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sizes.SIZES, "toy", lambda: small_config(sliding_window=8))
        patch.setattr(roster, "PEERS", PEERS)
        patch.setattr(run.loading, "in_fresh_process", lambda *_: LOADED)
        patch.setattr(run.ceilings, "LARGE", {"cpu": 2**20})
        patch.setattr(run.ceilings, "SIDE", {"cpu": 64})
        yield run.measure(Settings("toy", ("float32", "bfloat16"), device="cpu"), PLAN)


def rows(measured, **wanted) -> list[Row]:
    return [row for row in measured.rows if all(row[k] == v for k, v in wanted.items())]


def test_every_row_has_the_same_keys_and_finite_figures(measured):
    assert {frozenset(row) for row in measured.rows} == {frozenset(KEYS)}
    for row in measured.rows:
        assert 0 < row["low"] <= row["median"] <= row["high"], row
        assert row["blocks"] >= 1 and 0 <= row["others"] <= 1


def test_every_case_is_measured_for_every_peer_that_takes_part(measured):
    for dtype in ("float32", "bfloat16"):
        for batch in (1, 2):
            for state, tokens in {"short": 8, "full": 8, "wrapped": 20}.items():
                case = dict(quantity="decode", dtype=dtype, batch=batch, state=state, tokens=tokens)
                assert [row["peer"] for row in rows(measured, **case)] == ["plain", "engine"]
        for quantity, unit in {
            "prefill": "tokens/s",
            "first token": "ms",
            "one token": "ms",
            "cache held": "bytes",
            "ready": "s",
            "first token after loading": "s",
            "peak while loading": "bytes",
            "peak": "bytes",
        }.items():
            found = rows(measured, quantity=quantity, dtype=dtype)
            assert {row["peer"] for row in found} == {"plain", "engine"}, quantity
            assert {row["unit"] for row in found} == {unit}
    curve = rows(measured, quantity="one token", dtype="float32", peer="plain")
    assert [row["tokens"] for row in curve] == [8, 16]


def test_every_absent_peer_is_listed_with_its_reason(measured):
    listed = [peer for peer in measured.settings["peers"] if peer["dtype"] == "float32"]
    assert [peer["peer"] for peer in listed] == [peer.name for peer in PEERS]
    reasons = {peer["peer"]: peer["reason"] for peer in listed}
    assert reasons["plain"] is None and reasons["engine"] is None
    assert reasons["absent"] == "there is none here"
    assert "its logits differ from the reference" in reasons["wrong"]
    assert reasons["broken"] == "it could not be loaded: OSError: no such weights"
    assert reasons["slow"] == "not asked for: it is measured only with --peers slow"
    assert [p["peer"] for p in listed if p["measured"]] == ["plain", "engine"]
    text = report.table(measured)
    for name in ("absent", "wrong", "broken", "slow"):
        assert f"{name}" in text and reasons[name] in text


def test_the_comparison_of_logits_is_in_the_record(measured):
    found = {one["peer"]: one for one in measured.settings["agreement"][:3]}
    assert found.keys() == {"plain", "engine", "wrong"}
    assert found["plain"]["difference"] == 0 and found["engine"]["agrees"]
    assert not found["wrong"]["agrees"]


def test_what_a_record_needs_to_be_understood_is_there(measured):
    settings = measured.settings
    for name in ("float32", "bfloat16"):
        limits = settings["limits"][name]
        assert set(limits) == {"read", "copy", f"matmul {name}"}
        assert all(limit["median"] > 0 for limit in limits.values())
    assert settings["window"] == 8 and settings["threads"] >= 1
    for when in ("load before", "load after"):
        assert set(settings[when]) == {"load average", "stolen seconds"}
    written = measured.as_json()
    assert written["experiment"] == "bench-toy"
    assert written["command"].startswith("mistral-edu bench --model toy --dtype float32,bfloat16")


def test_table_and_figure_are_written(measured, tmp_path):
    path = measured.write(tmp_path, report.draw)
    assert path == tmp_path / "bench-toy.json"
    assert json.loads(path.read_text(encoding="utf-8"))["rows"] == list(measured.rows)
    assert (tmp_path / "bench-toy.png").read_bytes()[1:4] == b"PNG"


def test_the_finding_compares_the_engine_at_every_batch(measured):
    full = rows(measured, quantity="decode", state="full", peer="engine")
    others = [{**row, "peer": "transformers"} for row in full]
    mine = [{**row, "ratio": 1.5} for row in full]
    said = report.finding([one for pair in zip(mine, others, strict=True) for one in pair])
    for row in full:
        case = f"{row['dtype']}, batch {row['batch']}, {row['of_limit']:.0%} of the limit"
        assert f"1.50 times ({case})" in said and f": ({case})" in report.finding([row])


def test_the_finding_says_when_others_took_the_machine(measured):
    full = rows(measured, quantity="decode", state="full")
    quiet = [{**row, "others": 0.0} for row in full]
    assert "noise" not in report.finding(quiet)
    quiet[-1]["others"] = 0.5
    assert report.finding(quiet).endswith("(noise: others took up to 50% of the machine)")


# ── who takes part ──────────────────────────────────────────────────────────────────────────────


def test_names_decide_and_unknown_ones_are_refused():
    found = choose(PEERS, ("plain", "slow"), CPU, torch.float32)
    assert [peer.name for peer in found.present] == ["plain", "slow"]
    assert found.absent == dict.fromkeys(("engine", "absent", "wrong", "broken"), "not asked for")
    everyone = choose(PEERS, ("all",), CPU, torch.float32)
    assert set(everyone.absent) == {"absent"}
    with pytest.raises(ValueError, match=r"unknown peers \['vllm'\]: choose from plain, engine"):
        choose(PEERS, ("vllm",), CPU, torch.float32)


def test_logits_that_are_no_number_do_not_agree():
    one = torch.ones(1, 1, 2)
    assert not agreement.agreement("a", 1, one * float("nan"), one, torch.float32).holds


def test_a_peer_that_fails_at_one_case_is_noted_and_the_others_go_on():
    def session(batch, longest):
        raise RuntimeError("out of memory")

    config = small_config()
    limit = Spread(1.0, 1.0, 1.0, 1)
    bench = Bench(
        {"full": opened_by(session), "fine": opened_by(lambda *_: WrongSession(config))},
        config,
        torch.float32,
        CPU,
        Ceilings(limit, limit, {"float32": limit}),
        PLAN,
    )
    with bench.sessions(1, 8, bench.ids(1, 4)) as sessions:
        assert list(sessions) == ["fine"]
    expected = {"peer": "full", "case": "batch 1, 4 tokens", "reason": "out of memory"}
    assert bench.failures == [expected]


def test_a_peer_without_a_window_is_compared_inside_it(tmp_path):
    lengths = []
    config = small_config(sliding_window=8)

    class Seen(WrongSession):
        def start(self, ids):
            lengths.append(ids.shape)
            super().start(ids)

    blind = Peer("blind", lambda device, dtype: None, lambda material: None, windowed=False)
    peers = {"blind": (blind, opened_by(lambda *_: Seen(config)))}
    agreement.compare(peers, opened_by(lambda *_: Seen(config)), config, CPU, torch.float32)
    assert lengths == [(agreement.ROWS, 4)] * 2


def test_open_all_prepares_before_it_opens(tmp_path):
    done = []
    peer = Peer(
        "p",
        lambda device, dtype: None,
        lambda material: done.append("open") or opened_by(print),
        prepare=lambda material: done.append("prepare"),
    )
    material = Material(tmp_path, torch.float32, CPU, 1, tmp_path)
    attendance.open_all(Chosen([peer]), material, lambda text: None)
    assert done == ["prepare", "open"]


# ── the command ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model", "13b"], "13b"),
        (["--dtype", "int8"], "int8"),
        (["--dtype", ","], "','"),
        (["--only", "speed"], "'speed'"),
        (["--batches", "1,0"], "'0'"),
        (["--peers", "vllm", "--device", "cpu"], "vllm"),
    ],
)
def test_a_mistake_is_named_before_anything_is_measured(words, named, capsys):
    try:
        status = cli.main(["bench", *words])
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("only", "quantities"),
    [
        (("cache",), {"cache held"}),
        (("curve",), {"one token"}),
        (("decode", "loading"), {"decode", "ready", "first token after loading"}),
        (("prefill",), {"prefill", "first token"}),
    ],
)
def test_a_part_of_the_run_measures_that_and_is_drawn(monkeypatch, tmp_path, only, quantities):
    monkeypatch.setitem(sizes.SIZES, "toy", lambda: small_config(sliding_window=8))
    monkeypatch.setattr(roster, "PEERS", ours.PEERS)
    given_back = []
    monkeypatch.setattr(run.memory, "give_back", given_back.append)
    monkeypatch.setattr(run.loading, "in_fresh_process", lambda *_: given_back and LOADED)
    monkeypatch.setattr(run.ceilings, "LARGE", {"cpu": 2**20})
    monkeypatch.setattr(run.ceilings, "SIDE", {"cpu": 64})
    settings = Settings("toy", device="cpu", only=only, batches=(2,), windows=(1, 3))
    found = run.measure(settings, replace(PLAN, only=only))
    peaks = {"peak", "peak while loading"} if "loading" in only else set()
    assert {row["quantity"] for row in found.rows} == quantities | peaks
    assert (tmp_path / "bench-toy.json") == found.write(tmp_path, report.draw)
    assert report.table(found) and found.command.endswith(
        f"--only {','.join(only)} --batches 2 --windows 1,3 --device cpu"
    )


def test_a_plan_follows_what_is_asked_for():
    plan = Settings(only=("curve",), batches=(4,), windows=(1, 32), longest=4096).plan
    asked = Plan((512, 2048, 4096), (4,), (1, 32), only=("curve",))
    assert plan == asked and Settings().plan == Plan()


def test_the_command_measures_what_it_is_told(monkeypatch, tmp_path, measured, capsys):
    asked = []
    monkeypatch.setattr(run, "measure", lambda settings: asked.append(settings) or measured)
    words = "bench --model toy --dtype float32,bfloat16 --peers plain --quick --longest 99"
    words += " --only decode,curve --batches 1,4 --windows 1,32"
    assert cli.main([*words.split(), "--output", str(tmp_path)]) == 0
    given = ("toy", ("float32", "bfloat16"), ("plain",), True, 99, None)
    assert asked == [Settings(*given, ("decode", "curve"), (1, 4), (1, 32))]
    said = capsys.readouterr().out
    assert measured.finding in said and str(tmp_path / "bench-toy.json") in said
