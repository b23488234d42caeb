"""Generation: cached equals uncached, rows are independent, and bad requests are refused."""

import pytest
import torch

from mistral_edu import GenerationConfig
from mistral_edu.generation_request import checked_mask as _checked_mask
from mistral_edu.streamers import TextStreamer
from tests.models import left_padded, random_ids, small_model


@torch.no_grad()
def greedy_without_cache(model, ids, new_tokens):
    """The slow way: run the whole text again for every token."""
    for _ in range(new_tokens):
        best = model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, best], dim=1)
    return ids


@pytest.mark.parametrize("length", [1, 3, 4, 5, 13])
@pytest.mark.parametrize("chunk", [None, 1, 3, 4, 5])
def test_greedy_equals_running_the_whole_text_again(length, chunk):
    model = small_model()
    ids = random_ids(model, 2, length)
    found = model.generate(ids, max_new_tokens=13, eos_token_id=(), prefill_chunk_size=chunk)
    assert found.tolist() == greedy_without_cache(model, ids, 13).tolist()


@pytest.mark.parametrize("chunk", [None, 2, 7])
def test_ragged_rows_generate_what_they_would_alone(chunk):
    model = small_model()
    texts = [random_ids(model, 1, length, seed=length)[0] for length in (1, 4, 9)]
    ids, mask = left_padded(texts)
    options = dict(max_new_tokens=10, eos_token_id=(), prefill_chunk_size=chunk)
    together = model.generate(ids, attention_mask=mask, **options)
    for row, text in enumerate(texts):
        alone = model.generate(text[None], max_new_tokens=10, eos_token_id=())
        assert together[row, ids.shape[1] :].tolist() == alone[0, len(text) :].tolist()


def test_a_sampled_row_does_not_depend_on_its_neighbours():
    model = small_model()
    ids = random_ids(model, 3, 5)
    options = dict(max_new_tokens=8, do_sample=True, eos_token_id=())
    together = model.generate(ids, seed=[4, 5, 6], **options)
    alone = model.generate(ids[1:2], seed=5, **options)
    assert together[1].tolist() == alone[0].tolist()
    assert model.generate(ids, seed=4, **options).tolist() == together.tolist()
    assert model.generate(ids, seed=7, **options).tolist() != together.tolist()


def test_a_finished_row_emits_padding_and_does_not_disturb_the_others():
    for seed in range(20):  # until the token that ends row 0 is not one that row 1 also makes
        model = small_model(seed)
        ids = random_ids(model, 2, 6)
        free = model.generate(ids, max_new_tokens=12, eos_token_id=())
        made = free[0, 6:].tolist()
        end = made[2]
        if end not in free[1, 6:].tolist() + made[:2]:
            break
    found = model.generate(ids, max_new_tokens=12, eos_token_id=end, pad_token_id=0)
    assert found[0, 6:].tolist() == made[:3] + [0] * 9
    assert found[1].tolist() == free[1].tolist()


def test_generation_stops_when_every_row_has_finished():
    model = small_model()
    ids = random_ids(model, 1, 6)
    free = model.generate(ids, max_new_tokens=9, eos_token_id=())
    ends = [int(free[0, 7]), 63]
    found = model.generate(ids, max_new_tokens=9, eos_token_id=ends)
    assert found.shape[1] <= 8 and int(found[0, -1]) in ends


def test_min_new_tokens_holds_the_end_back():
    model = small_model()
    ids = random_ids(model, 1, 6)
    end = int(model.generate(ids, max_new_tokens=1, eos_token_id=())[0, -1])
    found = model.generate(ids, max_new_tokens=9, min_new_tokens=4, eos_token_id=end)
    assert end not in found[0, 6:10].tolist()
    assert found.shape[1] > 9


def test_zero_new_tokens_returns_the_prompt():
    model = small_model()
    ids = random_ids(model, 2, 3)
    assert model.generate(ids, max_new_tokens=0).tolist() == ids.tolist()


def test_a_stream_yields_what_generate_returns_and_may_be_left_early():
    model = small_model()
    ids = random_ids(model, 2, 3)
    whole = model.generate(ids, max_new_tokens=6, eos_token_id=())
    streamed = torch.stack(list(model.stream(ids, max_new_tokens=6, eos_token_id=())), dim=1)
    assert streamed.tolist() == whole[:, 3:].tolist()
    left = next(model.stream(ids, max_new_tokens=6, eos_token_id=()))
    assert left.tolist() == whole[:, 3].tolist()
    assert torch.is_grad_enabled(), "an abandoned stream must not leave gradients switched off"
    assert model.generate(ids, max_new_tokens=6, eos_token_id=()).tolist() == whole.tolist()


class Letters:
    """A tokenizer whose decoder writes one letter for each id."""

    def decoder(self):
        return self

    def add(self, token):
        return chr(ord("a") + token % 26)

    def finish(self):
        return "."


def test_a_text_streamer_writes_each_token_and_the_end():
    model, pieces = small_model(), []
    found = model.generate(
        random_ids(model, 1, 3),
        max_new_tokens=4,
        eos_token_id=(),
        streamer=TextStreamer(Letters(), pieces.append),
    )
    assert pieces == [Letters().add(token) for token in found[0, 3:].tolist()] + ["."]


def test_a_text_streamer_refuses_a_batch():
    model = small_model()
    with pytest.raises(ValueError, match="the batch has 2"):
        model.generate(random_ids(model, 2, 3), streamer=TextStreamer(Letters(), print))


def test_padding_on_the_right_is_refused_with_the_remedy():
    model = small_model()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    with pytest.raises(ValueError, match="pad the batch on the left"):
        model.generate(random_ids(model, 2, 3), attention_mask=mask)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.zeros(1, 0, dtype=torch.long), None, "at least one token"),
        (torch.zeros(3, dtype=torch.long), None, r"shape \(3,\)"),
        (torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 2), r"\(1, 2\), expected"),
    ],
)
def test_misshapen_prompts_are_refused(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        _checked_mask(ids, mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens=-1"),
        ({"temperature": 0.0}, "do_sample=False"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"min_p": 0.0}, "min_p=0.0"),
        ({"top_k": 0}, "top_k=0"),
        ({"prefill_chunk_size": 0}, "prefill_chunk_size=0"),
        ({"repetition_penalty": -2.0}, "repetition_penalty=-2.0"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**options)
