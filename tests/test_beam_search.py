"""Beam search: the texts that transformers finds, their probabilities, and nothing mixed up."""

import random

import pytest
import torch

from mistral_edu import sampling
from mistral_edu.generation_request import prepare
from tests.fake_tokenizer import Letters
from tests.models import left_padded, oracle_logits, random_ids, small_model
from tests.transformers_twin import twin

SEEDS = range(15, 75)


def random_case(seed):
    """A model, a left-padded batch and options, all drawn from `seed`."""
    draw = random.Random(seed)
    model = small_model(
        seed,
        vocab_size=draw.choice([16, 30, 64]),
        initializer_range=draw.choice([0.1, 0.2, 0.3]),
        sliding_window=draw.choice([2, 3, 4, 8]),
    )
    lengths = [draw.randint(1, 9) for _ in range(draw.choice([1, 2, 3]))]
    texts = [random_ids(model, 1, length, seed=seed + i)[0] for i, length in enumerate(lengths)]
    width = draw.choice([2, 3, 4])
    options = dict(
        num_beams=width,
        num_return_sequences=draw.randint(1, width),
        length_penalty=draw.choice([0.0, 0.5, 1.0, 2.0, -1.0]),
        early_stopping=draw.choice([True, False, "never"]),
        max_new_tokens=draw.choice([1, 2, 7, 26]),  # up to more than three windows
        repetition_penalty=draw.choice([1.0, 1.0, 1.3]),
        eos_token_id=draw.choice([[3], [3, 5], [4, 5, 6]]),
        pad_token_id=1,  # theirs takes a pad id of 0 for none
    )
    options["min_new_tokens"] = draw.choice([0, min(3, options["max_new_tokens"])])
    return model, *left_padded(texts), options


@pytest.mark.parametrize("seed", SEEDS)
def test_beams_find_the_texts_that_transformers_finds(seed):
    model, ids, mask, options = random_case(seed)
    theirs = twin(model).generate(ids, attention_mask=mask, do_sample=False, **options)
    found = model.generate(ids, attention_mask=mask, **options)
    assert found.tolist() == theirs.tolist()


def test_the_sweep_meets_every_case_that_matters():
    cases = [random_case(seed) for seed in SEEDS]
    assert any((mask == 0).any() for _, _, mask, _ in cases)
    assert {options["early_stopping"] for *_, options in cases} == {True, False, "never"}
    reasons = []
    for model, ids, mask, options in cases[:20]:
        reasons += model.generate_with_details(ids, mask, **options).finish_reasons
    assert min(reasons.count("eos"), reasons.count("length")) > 10
    for seed, other in ((18, True), (69, "never")):  # each setting must make a difference
        model, ids, mask, options = random_case(seed)
        found = [
            model.generate(ids, mask, **{**options, "early_stopping": early}).tolist()
            for early in (False, other)
        ]
        assert found[0] != found[1]


@pytest.mark.parametrize("seed", range(10))
def test_a_row_finds_what_it_would_find_alone(seed):
    model, ids, mask, options = random_case(seed)
    count = options["num_return_sequences"]
    together = model.generate(ids, attention_mask=mask, **options)
    for row in range(len(ids)):
        alone = model.generate(ids[row : row + 1, mask[row] > 0], **options)[:, mask[row].sum() :]
        mine = together[row * count : (row + 1) * count, ids.shape[1] :]
        assert mine[:, : alone.shape[1]].tolist() == alone.tolist()
        assert (mine[:, alone.shape[1] :] == options["pad_token_id"]).all()


@pytest.mark.parametrize("seed", range(10))
def test_log_probabilities_are_those_of_one_pass_over_the_text(seed):
    model = small_model(seed)
    ids = random_ids(model, 2, 5, seed)
    output = model.generate_with_details(
        ids, num_beams=3, num_return_sequences=3, max_new_tokens=13, eos_token_id=3, pad_token_id=1
    )
    logprobs = oracle_logits(model, output.sequences)[:, 4:-1].log_softmax(-1)
    for row, text in enumerate(output.sequences[:, 5:]):
        length = text.tolist().index(3) + 1 if 3 in text else len(text)
        expected = logprobs[row, range(length), text[:length]]
        assert torch.allclose(output.logprobs[row, :length], expected, atol=1e-4)
        assert (output.logprobs[row, length:] == 0).all()


def test_the_best_text_comes_first_and_is_as_good_as_the_greedy_one():
    for seed in range(10):
        model = small_model(seed)
        ids = random_ids(model, 1, 4, seed)
        options = dict(max_new_tokens=6, eos_token_id=())
        sums = model.generate_with_details(
            ids, num_beams=4, num_return_sequences=4, **options
        ).logprobs.sum(1)
        assert sums.tolist() == sorted(sums.tolist(), reverse=True)
        assert sums[0] >= model.generate_with_details(ids, **options).logprobs.sum() - 1e-5


def test_wide_beams_find_the_best_of_all_texts():
    model = small_model(vocab_size=16)
    ids = random_ids(model, 1, 5)
    texts = torch.cartesian_prod(*[torch.arange(16)] * 2)  # every pair of tokens
    whole = torch.cat([ids.expand(len(texts), -1), texts], dim=1)
    logprobs = oracle_logits(model, whole)[:, 4:-1].log_softmax(-1)
    sums = logprobs.gather(2, texts[:, :, None]).sum((1, 2))
    found = model.generate(ids, num_beams=8, max_new_tokens=2, eos_token_id=())
    assert found[0, 5:].tolist() == texts[sums.argmax()].tolist()


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_a_stop_sequence_ends_a_beam_as_an_eos_id_would(early_stopping):
    for seed in range(10):
        model = small_model(seed, initializer_range=0.1)
        ids = random_ids(model, 2, 4, seed)
        options = dict(num_beams=3, max_new_tokens=9, early_stopping=early_stopping, pad_token_id=1)
        by_eos = model.generate_with_details(ids, eos_token_id=3, **options)
        by_stop = model.generate_with_details(ids, eos_token_id=(), stop_sequences=[[3]], **options)
        assert by_stop.sequences.tolist() == by_eos.sequences.tolist()
        told = [reason.replace("stop", "eos") for reason in by_stop.finish_reasons]
        assert told == by_eos.finish_reasons


def test_a_stop_string_ends_a_beam():
    model = small_model()
    ids = random_ids(model, 1, 4)
    options = dict(num_beams=3, max_new_tokens=9, eos_token_id=(), tokenizer=Letters())
    free = model.generate(ids, **options)[0, 4:].tolist()
    text = "".join(map(Letters().add, free))
    found = model.generate_with_details(ids, stop_strings=text[:3], length_penalty=0.0, **options)
    assert found.sequences[0, 4:].tolist() == free[:3]
    assert found.finish_reasons == ["stop"]


def test_no_new_tokens_is_the_prompt_for_each_beam():
    ids = random_ids(small_model(), 2, 3)
    found = small_model().generate(ids, num_beams=2, num_return_sequences=2, max_new_tokens=0)
    assert found.tolist() == ids[[0, 0, 1, 1]].tolist()


def test_a_prompt_in_chunks_gives_the_same_beams():
    model, ids, mask, options = random_case(seed=2)
    whole = model.generate(ids, attention_mask=mask, **options)
    chunked = model.generate(ids, attention_mask=mask, prefill_chunk_size=2, **options)
    assert chunked.tolist() == whole.tolist()


def test_more_beams_than_the_vocabulary_can_fill_are_refused():
    model = small_model(vocab_size=16)
    options = {"num_beams": 6, "eos_token_id": [3, 4]}
    with pytest.raises(ValueError, match="num_beams=6 with 2 eos ids .* 18 .* vocab_size=16"):
        model.generate(random_ids(model, 1, 3), **options)


@torch.no_grad()
def test_damaged_weights_are_named():
    model = small_model()
    model.lm_head.weight[9] = float("nan")
    with pytest.raises(sampling.DamagedScoresError, match="row 0"):
        model.generate(random_ids(model, 2, 3), num_beams=2)


def test_gradients_are_on_again_after_a_search():
    model = small_model()
    model.generate(random_ids(model, 1, 3), num_beams=2, max_new_tokens=2)
    assert torch.is_grad_enabled()
    request = prepare(model, random_ids(model, 1, 3), options={"num_beams": 2})
    assert not request.has_stops
