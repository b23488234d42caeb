"""The speed-up diagram: who is timed equals native attention, who is not says why."""

import pytest
import torch

from mistral_edu.experiments import attention
from mistral_edu.experiments.attention import Place, matrices_fit, present
from mistral_edu.experiments.attention_figure import finding
from mistral_edu.experiments.record import read
from tests.models import small_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def measured():
    config = small_config(sliding_window=8)
    types = [torch.float32, torch.bfloat16]
    return attention.measure((8, 24), types, config, rounds=1, device="cpu")


def test_each_backend_is_timed_on_the_same_cases(measured):
    cases = {(r["dtype"], r["what"], r["length"], r["backend"]) for r in measured.rows}
    expected = {
        (dtype, what, length, backend)
        for dtype in ("float32", "bfloat16")
        for what in ("attention", "model")
        for length in (8, 24)
        for backend in ("eager", "sdpa")
    }
    assert cases == expected and len(measured.rows) == len(expected)
    for row in measured.rows:
        assert 0 < row["low"] <= row["seconds"] <= row["high"]
        assert row["backend"] != "eager" or row["speed_up"] == 1.0


def test_what_is_timed_equals_native_attention(measured):
    for row in measured.rows:
        if row["what"] == "attention":
            assert row["difference"] <= (1e-6 if row["dtype"] == "float32" else 2e-2)
        else:
            assert row["difference"] is None


def test_a_backend_that_attends_to_something_else_is_seen(monkeypatch):
    wrong = attention.backends.Backend(lambda q, *_: torch.zeros_like(q), lambda: None)
    monkeypatch.setitem(attention.backends.REGISTRY, "sdpa", wrong)
    place = Place(small_config(), CPU, torch.float32, 1)
    rows = attention.attention_rows(place, ["eager", "sdpa"], 8)
    assert [row["difference"] for row in rows] == [0.0, 1.0]


def test_the_model_is_run_with_the_backend_that_is_named(monkeypatch):
    seen = []
    for name in ("eager", "sdpa"):
        attend = attention.backends.REGISTRY[name].attend

        def spied(*arguments, name=name, attend=attend):
            seen.append(name)
            return attend(*arguments)

        monkeypatch.setitem(
            attention.backends.REGISTRY, name, attention.backends.Backend(spied, lambda: None)
        )
    attention.measure((8,), [torch.float32], small_config(), rounds=1, device="cpu")
    layers, blocks = small_config().num_hidden_layers, 2  # the first warms up
    assert seen.count("sdpa") == 2 + blocks + layers * blocks  # for memory and parity one each


def test_what_is_being_measured_is_told_before_it_is(capsys):
    config = small_config(max_position_embeddings=1024)
    attention.measure((8, 1024), [torch.float32], config, rounds=1, device="cpu")
    assert capsys.readouterr().err.splitlines() == [
        "float32, 8 tokens, eager and sdpa: the attention of one layer",
        "float32, 8 tokens, eager and sdpa: the whole model",
        "float32, 1,024 tokens, eager and sdpa: the attention of one layer",
        "float32, 1,024 tokens, eager and sdpa: the whole model",
    ]


def test_who_cannot_run_says_why():
    place = Place(small_config(), CPU, torch.float32, 1)
    names, absent = present(place)
    assert names[0] == "eager" and {one["backend"] for one in absent} == {"flex", "flash"}
    assert all(len(one["reason"]) > 20 for one in absent)


def test_native_attention_is_left_out_where_its_matrices_do_not_fit(monkeypatch):
    place = Place(small_config(), CPU, torch.float32, 1)
    assert matrices_fit(place, 64) and not matrices_fit(place, 10**7)
    monkeypatch.setattr(attention, "matrices_fit", lambda place, length: length < 20)
    found = attention.measure((8, 24), [torch.float32], small_config(), rounds=1, device="cpu")
    long = [row for row in found.rows if row["length"] == 24]
    assert {row["backend"] for row in long} == {"sdpa"}
    assert all(row["speed_up"] is None and row["difference"] is None for row in long)
    left_out = [one for one in found.settings["skipped"] if one["length"] == 24]
    assert [one["backend"] for one in left_out] == ["eager"]
    assert "At 8 tokens" in found.finding


def test_the_figure_and_its_title_come_from_the_table(measured, tmp_path):
    path = tmp_path / "attention.png"
    attention.draw(measured, path)
    assert path.read_bytes()[1:4] == b"PNG"
    assert "At 24 tokens a forward pass is" in measured.finding
    assert measured.finding.endswith(", window 8)")
    assert "(float32" in measured.finding
    native = [row for row in measured.rows if row["backend"] == "eager"]
    assert finding(native, 8).startswith("Native attention alone")


def test_a_lead_over_native_attention_in_another_type_is_no_finding():
    row = {"what": "model", "length": 64, "backend": "sdpa", "extra_bytes": None}
    rows = [
        row | {"dtype": "float32", "speed_up": 2.0},
        row | {"dtype": "bfloat16", "speed_up": 9.0},
    ]
    assert "2.0 times" in finding(rows, 8) and "(float32, window 8)" in finding(rows, 8)


def test_the_recorded_finding_follows_from_the_recorded_rows():
    found = read("attention")
    window = found["settings"]["model"]["sliding_window"]
    assert found["finding"] == finding(found["rows"], window)
