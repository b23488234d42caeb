"""The cost of fewer bits: measured against float32 on the same texts, with its noise."""

import copy

import pytest
import torch

from mistral_edu import load
from mistral_edu.experiments import quantization
from mistral_edu.experiments.quantization import Settings, rounded_by_row, ways


@pytest.fixture(scope="module")
def measured():
    return quantization.measure(Settings(documents=3, length=96, stories=4, groups=(32,)))


def test_each_precision_has_its_row_and_float32_costs_nothing(measured):
    names = [row["precision"] for row in measured.rows]
    assert names == ["float32", "bfloat16", "8 bits a row", "4 bits, groups of 32", "4 bits a row"]
    exact = measured.rows[0]
    assert exact["rise"] == exact["standard_error"] == exact["answers_changed"] == 0
    assert all(row["questions"] == exact["questions"] > 4 for row in measured.rows)


def test_fewer_bits_are_fewer_bytes_and_cost_more(measured):
    sizes = [row["bytes"] for row in measured.rows[:4]]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    rise = {row["precision"]: row["rise"] for row in measured.rows}
    assert max(map(abs, (rise["8 bits a row"], rise["bfloat16"]))) < rise["4 bits a row"]
    assert measured.rows[3]["loss"] == pytest.approx(
        measured.rows[0]["loss"] + rise["4 bits, groups of 32"], abs=2e-5
    )


def test_a_row_of_sixteen_numbers_is_rounded_as_a_whole():
    model, _ = load("tiny")
    rounded = rounded_by_row(copy.deepcopy(model))
    for name, before in model.named_parameters():
        after = rounded.get_parameter(name)
        if name.endswith("_proj.weight"):
            assert all(len(row.unique()) <= 16 for row in after[:3])
            step = (before.max(dim=1).values - before.min(dim=1).values) / 15
            assert ((after - before).abs() <= step[:, None] * 0.501).all()
        else:
            assert torch.equal(after, before)


def test_the_model_itself_is_left_as_it_was():
    model, _ = load("tiny")
    weights = {name: p.clone() for name, p in model.named_parameters()}
    for change in ways((32,)).values():
        change(copy.deepcopy(model))
    assert all(torch.equal(weights[name], p) for name, p in model.named_parameters())


def test_the_figure_is_drawn(measured, tmp_path):
    quantization.draw(measured, tmp_path / "q.png")
    assert (tmp_path / "q.png").read_bytes()[1:4] == b"PNG"
    assert measured.finding.startswith("8 bits a row cost")
