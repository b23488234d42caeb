"""KV heads at equal cache: equal caches are equal in bytes, and the title says what came out."""

import pytest

from mistral_edu.experiments import kv_heads
from mistral_edu.experiments.small_models import window_of
from tests.experiment_shapes import TINY


@pytest.fixture(scope="module")
def measured():
    return kv_heads.measure(
        1, seeds=(0, 1), heads=(1, 2, 4), slots=64, window=32, held_out_rows=2, workers=1,
        shape=TINY,
    )  # fmt: skip


def test_equal_cache_is_equal_bytes_and_equal_window_is_not(measured):
    rows = {(row["kv_heads"], row["window"]): row for row in measured.rows}
    assert set(rows) == {(1, 64), (2, 32), (4, 16), (1, 32), (4, 32)}
    layers, head_dim, float32 = 1, 8, 4
    for (heads, window), row in rows.items():
        assert row["cache_bytes"] == layers * 2 * heads * window * head_dim * float32
    (size,) = {row["cache_bytes"] for row in kv_heads.line(measured.rows, slots=64)}
    grown = [row["cache_bytes"] for row in kv_heads.line(measured.rows, window=32)]
    assert grown == [size // 2, size, 2 * size]


def test_every_model_of_every_seed_has_its_row(measured):
    assert len(measured.rows) == 10
    names = {"kv_heads", "window", "cache_bytes", "seed", "loss", "parameters"}
    assert all(set(row) == names for row in measured.rows)
    losses = {(row["kv_heads"], row["window"], row["loss"]) for row in measured.rows}
    assert len(losses) == 10  # Neither the seed nor the window nor the heads are without effect.


def test_fewer_heads_are_fewer_parameters_by_the_size_of_their_projections(measured):
    parameters = {row["kv_heads"]: row["parameters"] for row in measured.rows}
    assert parameters[4] - parameters[2] == 2 * (parameters[2] - parameters[1]) == 2 * 2 * 8 * 32


def test_a_model_can_belong_to_both_lines(measured):
    heads = [[row["kv_heads"] for row in line] for line in (
        kv_heads.line(measured.rows, slots=64), kv_heads.line(measured.rows, window=32)
    )]  # fmt: skip
    assert heads == [[1, 2, 4], [1, 2, 4]]


def row(kv, window, seed, loss):
    return {"kv_heads": kv, "window": window, "cache_bytes": 1024, "seed": seed, "loss": loss}


def test_the_title_counts_the_seeds_that_agree_and_leaves_the_other_line_out():
    rows = [
        row(1, 8, 0, 2.0), row(1, 8, 1, 2.2), row(2, 4, 0, 1.0), row(2, 4, 1, 2.4),
        row(2, 8, 0, 0.1), row(2, 8, 1, 0.1),
    ]  # fmt: skip
    title = kv_heads.finding(rows, slots=8)
    assert "2 KV heads × window 4 has the lowest held-out loss in 1 of 2 seeds: 1.70" in title
    assert title.endswith("against 2.10 for 1 KV head × window 8")


def test_heads_that_do_not_share_the_cache_evenly_are_refused():
    with pytest.raises(ValueError, match=r"slots=64 is not a multiple of \[3\] heads"):
        kv_heads.measure(3, heads=(1, 3), slots=64, shape=TINY)


def test_caches_that_should_be_equal_and_are_not_stop_the_measurement(monkeypatch):
    monkeypatch.setattr(kv_heads, "cache_bytes", lambda model, batch: 1000 + window_of(model))
    with pytest.raises(ValueError, match=r"caches of \[1032, 1064\] bytes at slots=64"):
        kv_heads.measure(
            1, (0,), heads=(1, 2), slots=64, window=32, held_out_rows=2, workers=1, shape=TINY
        )


def test_the_figure_is_drawn(measured, tmp_path):
    kv_heads.draw(measured, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
