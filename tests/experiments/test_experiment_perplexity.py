"""Perplexity: three ways of remembering differ in what a query sees, and in nothing else."""

import math

import pytest
import torch

from mistral_edu import MistralConfig, MistralForCausalLM, backends
from mistral_edu.experiments import perplexity, sinks
from mistral_edu.experiments.perplexity import FULL, KEPT, WINDOW, Settings

SMALL = Settings(documents=2, length=160, bin_width=40, workers=2)


def toy(window=8):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=1,
        sliding_window=window,
        max_position_embeddings=16,
        initializer_range=0.5,
    )
    return MistralForCausalLM(config).eval()


def every_loss(length=24):
    ids = torch.randint(32, (1, length), generator=torch.Generator().manual_seed(1))
    with perplexity.remembering(toy(), length) as ways:
        return {way: perplexity.losses(model, ids) for way, model in ways.items()}


def test_while_the_text_fits_the_window_all_ways_are_one():
    found = every_loss()
    for way in (FULL, KEPT):
        assert torch.allclose(found[way][:9], found[WINDOW][:9], atol=1e-5)
        assert (found[way][9:] - found[WINDOW][9:]).abs().min() > 1e-4


def test_a_loss_lies_at_the_token_that_is_foreseen():
    ids, model = torch.tensor([[3, 5, 7]]), toy()
    logits = model(ids).logits[0]
    expected = [0.0, *(-logits[at].log_softmax(-1)[ids[0, at + 1]].item() for at in (0, 1))]
    assert perplexity.losses(model, ids).tolist() == pytest.approx(expected, abs=1e-5)


def test_first_tokens_take_the_place_of_the_oldest_in_the_window():
    at = torch.arange(30)[None]
    seen = sinks.sinks_visible(at, at, window=8)[0]
    assert seen.sum(dim=1).tolist() == [min(position + 1, 8) for position in range(30)]
    assert seen[29].nonzero().flatten().tolist() == [0, 1, 2, 3, 26, 27, 28, 29]


def test_the_extra_backend_is_gone_afterwards():
    before = set(backends.REGISTRY)
    every_loss()
    assert set(backends.REGISTRY) == before


@pytest.mark.parametrize("window", [None, 4])
def test_a_model_without_room_for_first_tokens_is_refused(window):
    with (
        pytest.raises(ValueError, match=f"sliding_window={window}"),
        perplexity.remembering(toy(window), 8),
    ):
        pass


@pytest.fixture(scope="module")
def measured():
    return perplexity.measure(SMALL)


def test_every_token_but_begin_tokens_counts_once_for_every_way(measured):
    _, tokenizer = perplexity.load("tiny")
    begins = sum(
        perplexity.chain(tokenizer, seed, 160)[0].tolist().count(tokenizer.bos_id)
        for seed in (0, 1)
    )
    assert begins >= 2
    for way in (WINDOW, FULL, KEPT):
        mine = [row for row in measured.rows if row["way"] == way]
        assert [row["position_from"] for row in mine] == [0, 40, 80, 120]
        assert sum(row["tokens"] for row in mine) == 2 * 160 - begins


def test_the_finding_is_what_the_rows_say():
    def row(way, start, value):
        places = {"position_from": start, "position_to": start + 8}
        return {"way": way, "loss": math.log(value), "tokens": 1} | places

    values = {WINDOW: (2, 99, 4), FULL: (2, 99, 40), KEPT: (3, 99, 4)}
    rows = [
        row(way, start, value)
        for way, three in values.items()
        for start, value in zip((0, 8, 56), three, strict=True)
    ]
    said = perplexity.finding(rows, trained_to=8)
    assert said.startswith("Window: perplexity 2.00 within the 8 positions of training, 4.00 near")
    assert "full cache 1.00 and 10.00 times that" in said
    assert "window and first tokens 1.50 and 1.00 times that" in said


def test_the_table_and_the_figure_are_written(measured, tmp_path):
    measured.write(tmp_path, perplexity.draw)
    assert {path.name for path in tmp_path.iterdir()} == {"perplexity.json", "perplexity.png"}
