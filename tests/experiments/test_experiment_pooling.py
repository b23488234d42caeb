"""Pooling: methods differ, further training helps, and all of one seed go on from one model."""

import pytest
import torch

from mistral_edu.experiments import pooling
from mistral_edu.experiments.small_models import fresh_model, recipe_for, tokenizer_for
from mistral_edu.training.curriculum import batch_at
from tests.experiment_shapes import TINY

METHODS = ["multi-head", "mean", "first", "random"]


@pytest.fixture(scope="module")
def measured():
    return pooling.measure(
        6, seeds=(0, 1), shares=(0.0, 0.5), kept=1, held_out_rows=2, workers=1, shape=TINY
    )


@pytest.fixture(scope="module")
def job():
    recipe = recipe_for(0, 20, TINY)
    return pooling.Job(recipe, tokenizer_for(recipe), 2, (0.0, 0.5), 2)


def test_every_seed_method_and_share_has_its_row(measured):
    found = [(row["seed"], row["method"], row["share"]) for row in measured.rows]
    assert found == [(s, m, share) for s in (0, 1) for m in METHODS for share in (0.0, 0.5)]
    assert all(set(row) == {"seed", "method", "share", "loss"} for row in measured.rows)


def test_further_training_lowers_the_loss_of_every_method(measured):
    for method, losses in pooling.means(measured.rows).items():
        assert losses[0.5] < losses[0.0], method


def test_the_methods_differ_before_further_training(measured):
    before = [row["loss"] for row in measured.rows if row["seed"] == 0 and row["share"] == 0.0]
    assert len(set(before)) == len(METHODS)


def test_the_multi_head_model_goes_on_unchanged_and_the_others_with_fewer_heads(job):
    model = fresh_model(job.recipe)
    copies = {method: pooling.converted(model, method, job) for method in METHODS}
    heads = [copies[method].config.num_key_value_heads for method in METHODS]
    assert heads == [4, 2, 2, 2]
    for name, tensor in copies["multi-head"].state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
        assert tensor.data_ptr() != model.state_dict()[name].data_ptr()


def test_no_method_trains_the_model_that_the_next_one_starts_from(job):
    model = fresh_model(job.recipe)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for method in METHODS:
        pooling.train_further(pooling.converted(model, method, job), 0.1, job)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_share_is_that_part_of_the_steps_on_batches_that_come_after(job, monkeypatch):
    asked = []

    def note(recipe, tokenizer, step, window):
        asked.append(step)
        return batch_at(recipe, tokenizer, step, window)

    monkeypatch.setattr("mistral_edu.experiments.small_models.batch_at", note)
    for share in (0.0, 0.1, 0.25):
        pooling.train_further(fresh_model(job.recipe), share, job)
    assert asked == [20, 21, 20, 21, 22, 23, 24]


def test_the_learning_rate_of_further_training_is_a_third_and_falls_to_the_end(job):
    further = pooling.further_options(job.recipe.training, 0.5)
    assert (further.steps, further.warmup + further.decay_steps) == (10, 10)
    assert further.learning_rate == pytest.approx(1e-3)
    assert further.matrix_learning_rate == pytest.approx(0.02 / 3)


def test_the_title_compares_with_the_multi_head_model_trained_equally_long():
    table = {"multi-head": (2.0, 1.0), "random": (9.0, 1.25), "mean": (2.5, 1.5)}
    rows = [
        {"seed": 0, "method": method, "share": share, "loss": loss}
        for method, both in table.items()
        for share, loss in zip((0.0, 0.05), both, strict=True)
    ]
    assert pooling.finding(rows) == (
        "Loss above the multi-head model, before and after 5 % more training: "
        "random +7.00 and +0.25, mean +0.50 and +0.50"
    )


def test_the_figure_is_drawn(measured, tmp_path):
    pooling.draw(measured, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
