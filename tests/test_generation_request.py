"""A request is checked before any work is done; its rules come in transformers' order."""

import pytest
import torch
from transformers import GenerationConfig as TheirConfig

from mistral_edu import GenerationConfig
from mistral_edu.generation import allowed
from mistral_edu.generation_request import GenerationRequest, checked_mask, prepare, restrain
from tests.models import left_padded, random_ids, small_model
from tests.transformers_twin import twin

IDS = torch.tensor([[1, 5, 9], [1, 6, 3]])


def test_padding_on_the_right_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="pad the batch on the left"):
        checked_mask(IDS, torch.tensor([[1, 1, 1], [1, 1, 0]]))


def test_a_row_of_padding_alone_is_refused():
    with pytest.raises(ValueError, match="a row ends in padding"):
        checked_mask(IDS, torch.tensor([[1, 1, 1], [0, 0, 0]]))


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.zeros(1, 0, dtype=torch.long), None, "at least one token: start from the bos id"),
        (torch.zeros(0, 3, dtype=torch.long), None, r"shape \(0, 3\), expected"),
        (torch.zeros(3, dtype=torch.long), None, r"shape \(3,\)"),
        (IDS, torch.ones(1, 2), r"shape \(1, 2\), expected a tensor of input_ids' \(2, 3\)"),
        (IDS, [[1, 1, 1], [1, 1, 1]], r"of <class 'list'>, expected a tensor of input_ids'"),
        (torch.zeros(1, 3), None, "float32, expected a tensor of whole numbers"),
        (IDS > 0, None, "bool, expected a tensor of whole numbers"),
        ([[1, 5]], None, "list, expected a tensor of whole numbers"),
    ],
)
def test_misshapen_prompts_are_refused(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        checked_mask(ids, mask)


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (torch.tensor([[1, 64]]), {}, "input_ids holds 64, expected 0 to 63"),
        (torch.tensor([[-1, 5]]), {}, "input_ids holds -1, expected 0 to 63"),
        (IDS, {"eos_token_id": 64}, "eos_token_id holds 64"),
        (IDS, {"eos_token_id": [2, -1]}, "eos_token_id holds -1"),
        (IDS, {"pad_token_id": -1}, "pad_token_id holds -1"),
        (IDS, {"stop_sequences": [[5], [6, 99]]}, "stop_sequences holds 99"),
        (IDS, {"stop_strings": "end"}, r"stop_strings=\('end',\) .* give tokenizer="),
    ],
)
def test_ids_outside_the_vocabulary_and_text_without_a_tokenizer_are_named(ids, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(small_model(), ids, options=options)


def test_a_misspelt_option_is_answered_with_those_there_are():
    with pytest.raises(TypeError, match="'max_tokens': there are .*max_new_tokens"):
        prepare(small_model(), IDS, options={"max_tokens": 3})


def test_an_option_replaces_a_field_of_the_config_and_leaves_the_rest():
    config = GenerationConfig(max_new_tokens=5, eos_token_id=7)
    request = prepare(small_model(), IDS, config=config, options={"max_new_tokens": 6})
    assert (request.config.max_new_tokens, request.ends.tolist()) == (6, [7])


@pytest.mark.parametrize(
    ("own", "options", "ends", "pad"),
    [
        ({"eos_token_id": 2}, {}, [2], 2),
        ({"eos_token_id": 2, "pad_token_id": 0}, {}, [2], 0),
        ({"eos_token_id": 2, "pad_token_id": 0}, {"pad_token_id": 9}, [2], 9),
        ({"eos_token_id": 2}, {"eos_token_id": [5, 6]}, [5, 6], 5),
        ({"eos_token_id": 2}, {"eos_token_id": ()}, [], 0),
        ({"eos_token_id": None}, {}, [], 0),
    ],
)
def test_the_call_decides_on_end_and_padding_before_the_model_does(own, options, ends, pad):
    request = prepare(small_model(**own), IDS, options=options)
    assert (request.ends.tolist(), request.pad) == (ends, pad)


def test_padding_is_not_seen_even_where_its_id_is_also_a_token():
    ids, mask = left_padded([torch.tensor([5]), torch.tensor([0, 7, 7])])  # padded with 0
    options = {"repetition_penalty": 1.1}
    seen = prepare(small_model(), ids, mask, options=options).seen_tokens(vocab_size=64)
    assert [row.nonzero().flatten().tolist() for row in seen] == [[5], [0, 7]]


def test_what_was_seen_is_kept_only_for_the_penalty():
    assert prepare(small_model(), IDS).seen_tokens(vocab_size=64) is None


@pytest.mark.parametrize("seed", range(20))
def test_rules_make_of_their_scores_what_transformers_makes_of_them(seed):
    # Their own sampling, step by step: from the scores their model gave to those they drew from.
    model, generator = small_model(seed), torch.Generator().manual_seed(seed)
    ids, mask = left_padded([random_ids(model, 1, length, seed)[0] for length in (2, 5)])
    share = torch.rand(3, generator=generator).tolist()
    options = dict(
        do_sample=True,
        temperature=0.3 + share[0],
        top_k=5 + seed,
        top_p=0.5 + share[1] / 2,
        min_p=share[2] / 5,
        repetition_penalty=1.0 + share[0],
        max_new_tokens=8,
        min_new_tokens=4,
        eos_token_id=[3, 4, 5],
    )
    torch.manual_seed(seed)
    theirs = twin(model).generate(
        ids,
        attention_mask=mask,
        generation_config=TheirConfig(
            pad_token_id=0, output_logits=True, output_scores=True, return_dict_in_generate=True
        ),
        **options,
    )
    config = GenerationConfig(**options)
    for made, (logits, scores) in enumerate(zip(theirs.logits, theirs.scores, strict=True)):
        text = theirs.sequences[:, : ids.shape[1] + made]
        real = torch.cat([mask, torch.ones(2, made)], dim=1).bool()
        request = GenerationRequest(text, real, config, torch.tensor([3, 4, 5]), pad=0)
        ruled = restrain(logits, config, request.ends, made, request.seen_tokens(64))
        ours = allowed(ruled, config)
        assert torch.equal(ours.isfinite(), scores.isfinite())
        assert torch.allclose(ours.softmax(-1), scores.softmax(-1), atol=1e-6)
