"""GenerationConfig: a value out of range, or without effect, is refused by name."""

import pytest

from mistral_edu import GenerationConfig

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens=-1"),
        ({"min_new_tokens": -1}, "min_new_tokens=-1"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens=5 and max_new_tokens=4"),
        ({"temperature": 0.0}, "do_sample=False"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": NAN}, "temperature=nan must be above 0"),
        ({"temperature": INFINITY}, "temperature=inf must be above 0 and finite"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"top_p": NAN}, "top_p=nan must be above 0"),
        ({"min_p": 0.0}, "min_p=0.0"),
        ({"top_k": 0}, "top_k=0"),
        ({"prefill_chunk_size": 0}, "prefill_chunk_size=0"),
        ({"repetition_penalty": -2.0}, "repetition_penalty=-2.0"),
        ({"repetition_penalty": NAN}, "repetition_penalty=nan must be above 0"),
        ({"num_beams": 0}, "num_beams=0"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 is more than"),
        ({"num_beams": 2, "early_stopping": "soon"}, "early_stopping='soon'"),
        ({"stop_strings": ""}, "stop_strings='' .* must not hold an empty one"),
        ({"stop_strings": ["a", ""]}, "must not hold an empty one"),
        ({"stop_sequences": [[5], []]}, "must not hold an empty one"),
        ({"do_sample": True, "num_beams": 2}, "do_sample=True with num_beams=2"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**options)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"temperature": 0.7}, "do_sample=True"),
        ({"top_k": 5}, "do_sample=True"),
        ({"top_p": 0.9}, "do_sample=True"),
        ({"min_p": 0.1}, "do_sample=True"),
        ({"length_penalty": 0.5}, "num_beams above 1"),
        ({"early_stopping": True}, "num_beams above 1"),
        ({"num_return_sequences": 2}, "num_beams above 1"),
    ],
)
def test_an_option_without_effect_is_refused_with_what_it_needs(options, remedy):
    with pytest.raises(ValueError, match=f"has no effect here: it needs {remedy}"):
        GenerationConfig(**options)


def test_every_option_has_a_use_that_is_accepted():
    GenerationConfig(do_sample=True, temperature=0.7, top_k=5, top_p=1.0, min_p=1.0)
    GenerationConfig(
        num_beams=2, length_penalty=-1.0, early_stopping="never", num_return_sequences=2
    )
    GenerationConfig(max_new_tokens=0, stop_strings="a", stop_sequences=[(1, 2)], eos_token_id=())
