"""Generation: cached equals uncached, rows are independent, and bad requests are refused."""

import random

import pytest
import torch

from mistral_edu import GenerationConfig, MistralForCausalLM
from mistral_edu.model import MistralModel
from mistral_edu.sampling import DamagedScoresError
from mistral_edu.streamers import TextStreamer
from tests.fake_tokenizer import Letters
from tests.models import left_padded, oracle_logits, random_config, random_ids, small_model
from tests.transformers_twin import twin


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


@pytest.mark.parametrize("seed", range(40))
def test_greedy_makes_what_transformers_makes(seed):
    draw = random.Random(seed)
    model = MistralForCausalLM(random_config(seed), attention=draw.choice(["eager", "sdpa"])).eval()
    texts = [random_ids(model, 1, draw.randint(1, 20), seed + row)[0] for row in range(3)]
    ids, mask = left_padded(texts[: draw.randint(1, 3)])
    options = dict(
        max_new_tokens=draw.choice([1, 5, 40]),
        repetition_penalty=draw.choice([0.8, 1.0, 1.5]),
        eos_token_id=draw.choice([[3], [4, 5, 6, 7, 8, 9], list(range(3, 20))]),
        pad_token_id=draw.choice([0, 1, 3]),
    )
    options["min_new_tokens"] = draw.choice([0, min(4, options["max_new_tokens"])])
    theirs = twin(model).generate(ids, attention_mask=mask, do_sample=False, **options)
    found = model.generate(ids, mask, prefill_chunk_size=draw.choice([None, 3]), **options)
    assert found.tolist() == theirs.tolist()


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


def test_a_sampled_row_of_a_ragged_batch_is_what_it_would_be_alone():
    model = small_model()
    texts = [random_ids(model, 1, length, seed=length)[0] for length in (9, 2, 5)]
    ids, mask = left_padded(texts)
    options = dict(max_new_tokens=30, do_sample=True, eos_token_id=list(range(3, 8)))
    together = model.generate(ids, mask, seed=[1, 2, 3], pad_token_id=0, **options)
    lengths = set()
    for row, text in enumerate(texts):
        alone = model.generate(text[None], seed=row + 1, **options)[0, len(text) :].tolist()
        padding = [0] * (together.shape[1] - 9 - len(alone))
        assert together[row, 9:].tolist() == alone + padding
        lengths.add(len(alone))
    assert lengths == {16, 30}, "rows must end at different times for this to test anything"


@pytest.mark.parametrize("pad", [0, 2, 5])
def test_an_end_in_the_prompt_or_as_padding_ends_nothing(pad):
    model = small_model()
    text = torch.cat([random_ids(model, 1, 3)[0], torch.tensor([2, 9])])  # eos inside the prompt
    ids, mask = left_padded([text, random_ids(model, 1, 9)[0]])
    ids = ids.masked_fill(mask == 0, pad)
    found = model.generate_with_details(ids, mask, max_new_tokens=8, pad_token_id=pad)
    alone = model.generate_with_details(text[None], max_new_tokens=8, pad_token_id=pad)
    assert found.sequences[0, 9:].tolist() == alone.sequences[0, 5:].tolist()
    assert found.finish_reasons[0] == alone.finish_reasons[0] == "length"


@pytest.mark.parametrize("sample", [False, True])
def test_log_probabilities_are_the_models_own_for_every_token_of_a_row(sample):
    model = small_model()
    ids = random_ids(model, 3, 6)
    rules = dict(do_sample=True, temperature=0.5, top_k=20, seed=0) if sample else {}
    output = model.generate_with_details(
        ids, max_new_tokens=20, repetition_penalty=1.2, eos_token_id=range(3, 9), **rules
    )
    logprobs = oracle_logits(model, output.sequences)[:, 5:-1].log_softmax(-1)
    lengths = set()
    for row, text in enumerate(output.sequences[:, 6:].tolist()):
        length = next((n for n, token in enumerate(text, 1) if 3 <= token < 9), len(text))
        expected = logprobs[row, range(length), text[:length]]
        assert torch.allclose(output.logprobs[row, :length], expected, atol=1e-4)
        assert (output.logprobs[row, length:] == 0).all()
        lengths.add(length)
    assert len(lengths) > 1, "rows must end at different times for this to test anything"


def test_each_row_says_why_it_ended():
    model = small_model(vocab_size=500)  # so many that rows share none
    ids = random_ids(model, 3, 6)
    free = model.generate(ids, max_new_tokens=8, eos_token_id=())[:, 6:].tolist()
    end, stop = free[0][2], free[1][3:5]
    pairs = [list(pair) for row in (free[0], free[2]) for pair in zip(row, row[1:], strict=False)]
    assert end not in free[1] + free[2] and stop not in pairs
    options = dict(eos_token_id=end, stop_sequences=[stop], pad_token_id=0)
    output = model.generate_with_details(ids, max_new_tokens=8, **options)
    assert output.finish_reasons == ["eos", "stop", "length"]
    made = output.sequences[:, 6:].tolist()
    first, second = free[0].index(end) + 1, 5
    assert made[0] == free[0][:first] + [0] * (8 - first)
    assert made[1] == free[1][:second] + [0] * (8 - second)
    assert made[2] == free[2]


def test_a_stop_string_ends_its_row_only():
    model = small_model()
    ids = random_ids(model, 2, 6)
    free = model.generate(ids, max_new_tokens=8, eos_token_id=())[:, 6:].tolist()
    first, second = ("".join(map(Letters().add, row)) for row in free)
    stop = first[2:4]
    assert stop not in second
    output = model.generate_with_details(
        ids,
        max_new_tokens=8,
        eos_token_id=(),
        stop_strings=stop,
        tokenizer=Letters(),
        pad_token_id=1,
    )
    length = first.index(stop) + 2
    assert output.sequences[0, 6:].tolist() == free[0][:length] + [1] * (8 - length)
    assert output.sequences[1, 6:].tolist() == free[1]
    assert output.finish_reasons == ["stop", "length"]


def test_min_new_tokens_holds_back_ends_but_no_stops():
    model = small_model()
    ids = random_ids(model, 1, 6)
    first = int(model.generate(ids, max_new_tokens=1, eos_token_id=())[0, -1])
    options = dict(max_new_tokens=5, min_new_tokens=5, eos_token_id=(), stop_sequences=[[first]])
    assert model.generate(ids, **options).shape[1] == 7


class Interrupted:
    """Stands in for a model's decoder and is interrupted in its third pass."""

    def __init__(self, forward):
        self.forward, self.passes = forward, 0

    def __call__(self, *args, **options):
        self.passes += 1
        if self.passes == 3:
            raise KeyboardInterrupt
        return self.forward(*args, **options)


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}])
def test_an_interrupt_leaves_the_model_usable(monkeypatch, options):
    model = small_model()
    ids = random_ids(model, 2, 3)
    before = model.generate(ids, max_new_tokens=6, eos_token_id=())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MistralModel, "forward", Interrupted(model.model.forward))
        model.generate(ids, max_new_tokens=6, eos_token_id=(), **options)
    assert torch.is_grad_enabled()
    assert model.generate(ids, max_new_tokens=6, eos_token_id=()).tolist() == before.tolist()


def test_gradients_are_on_between_the_steps_of_a_stream_and_after_it_is_closed():
    model = small_model()
    stream = model.stream(random_ids(model, 1, 3), max_new_tokens=6, eos_token_id=())
    next(stream)
    assert torch.is_grad_enabled()
    stream.close()
    assert torch.is_grad_enabled()


def test_a_stream_refuses_bad_input_at_once_not_when_it_is_read():
    with pytest.raises(ValueError, match="input_ids holds 99"):
        small_model().stream(torch.tensor([[99]]))
    with pytest.raises(ValueError, match="num_beams=2 cannot be streamed"):
        small_model().stream(torch.tensor([[9]]), num_beams=2)


def test_beams_have_nothing_for_a_streamer():
    with pytest.raises(ValueError, match="num_beams=2 has nothing for a streamer"):
        small_model().generate(
            torch.tensor([[9]]), num_beams=2, streamer=TextStreamer(Letters(), print)
        )


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"do_sample": True, "top_p": 0.9}])
def test_damaged_weights_are_named_before_a_token_is_made(options):
    model = small_model()
    model.lm_head.weight[9] = float("nan")
    with pytest.raises(DamagedScoresError, match="weights are damaged"):
        next(model.stream(random_ids(model, 2, 3), **options))


def test_half_precision_is_chosen_from_in_float32():
    model = small_model().to(torch.bfloat16)
    output = model.generate_with_details(random_ids(model, 2, 5), max_new_tokens=4)
    assert output.logprobs.dtype == torch.float32


def test_generation_keeps_no_graph_for_gradients():
    for options in ({}, {"num_beams": 2}):
        model = small_model()
        output = model.generate_with_details(random_ids(model, 1, 5), max_new_tokens=4, **options)
        assert not output.logprobs.requires_grad


def test_a_config_may_be_given_whole():
    model = small_model()
    ids = random_ids(model, 1, 3)
    config = GenerationConfig(max_new_tokens=4, eos_token_id=())
    assert model.generate(ids, config=config).shape[1] == 7
    assert model.generate(ids, config=config, max_new_tokens=2).shape[1] == 5


def test_a_config_that_asks_for_tuples_changes_nothing():
    model = small_model()
    ids = random_ids(model, 1, 5)
    expected = model.generate(ids, max_new_tokens=6, eos_token_id=())
    tuples = small_model(return_dict=False)
    assert tuples.generate(ids, max_new_tokens=6, eos_token_id=()).tolist() == expected.tolist()
