"""Stopping: by eos id, by ids, by text that spans tokens; and nothing before it is made."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mistral_edu import MistralTokenizer, load
from mistral_edu.generation_request import prepare
from mistral_edu.stopping import EOS, RUNNING, STOP, StopWatch, endings_after, watch
from tests.models import small_model


@functools.cache
def tiny():
    return load("tiny")[1]


def first_stop(one, ids):
    """How many ids the watch takes until it stops; None if it never does."""
    return next((count for count, token in enumerate(ids, 1) if one.add(token)), None)


@pytest.mark.parametrize(
    ("sequences", "ids", "count"),
    [
        ([[5]], [4, 5, 6], 2),
        ([[5, 6]], [5, 5, 6], 3),
        ([[5, 6]], [6, 5, 7, 6], None),
        ([[5, 5, 6]], [5, 5, 5, 6], 4),
        ([[9, 9], [6]], [9, 6, 9, 9], 2),
        ([[5, 6, 7]], [6, 7], None),
    ],
)
def test_a_sequence_ends_a_row_when_its_last_id_arrives(sequences, ids, count):
    assert first_stop(StopWatch(sequences), ids) == count


def stop_count(text, *strings):
    """After how many ids of `text` a watch for `strings` stops, and how many ids there are."""
    ids = tiny().encode(text, bos=False)
    return first_stop(StopWatch(strings=strings, decoder=tiny().decoder()), ids), len(ids)


def test_a_stop_string_may_span_tokens():
    text = "Bastian the cook was there early."
    ids = tiny().encode(text, bos=False)
    for end in range(1, len(text) + 1):
        count, _ = stop_count(text, text[:end])
        assert text[:end] in tiny().decode(ids[:count])
        assert text[:end] not in tiny().decode(ids[: count - 1])


def test_a_stop_string_may_lie_inside_a_token():
    ids = tiny().encode("the weather", bos=False)
    inside = max((tiny().pieces[index] for index in ids), key=len).strip("▁")[1:-1]
    assert inside and stop_count("the weather", inside)[0] is not None


def test_a_stop_string_of_several_bytes_stops_at_its_last():
    assert stop_count("a☔b", "☔") == (4, 5)  # ▁a, three bytes, b
    assert stop_count("a☔b", "☕")[0] is None  # begins with the same byte


def test_the_first_of_several_stop_strings_decides():
    assert stop_count("one two", "two", "one")[0] < stop_count("one two")[1]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_watch_finds_what_searching_the_whole_text_finds(data):
    tokenizer = tiny()
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=12))
    texts = st.text("aeht .☔", min_size=1, max_size=3)
    strings = data.draw(st.lists(texts, min_size=1, max_size=3))
    whole = data.draw(st.sampled_from([tokenizer.decode(ids)[2:5] or "a", *strings]))
    strings = [*strings, whole]
    one = StopWatch(strings=strings, decoder=tokenizer.decoder())
    text, decoder = "", tokenizer.decoder()
    for token in ids:
        text += decoder.add(token)
        found = any(string in text for string in strings)
        assert one.add(token) == found
        assert len(one.text) < max(map(len, strings)), "only what a match can need is kept"
        if found:
            break


def test_what_the_prompt_holds_ends_nothing_but_a_space_after_it_counts():
    tokenizer = MistralTokenizer.mistral_v1()
    prompt = torch.tensor([tokenizer.encode("stop now")])
    model = small_model(vocab_size=32000, hidden_size=8, intermediate_size=8)
    asked = {"stop_strings": ["stop", " Hello"], "max_new_tokens": 3}
    request = prepare(model, prompt, tokenizer=tokenizer, options=asked)
    one = watch(request, row=0)
    assert one.add(22557)  # ▁Hello; at the start of a text its space would not be shown
    other = watch(request, row=0)
    assert not other.add(16230)  # Hello


def test_a_character_begun_in_the_prompt_is_completed():
    tokenizer = tiny()
    first, *rest = tokenizer.encode("☔", bos=False)[-3:]
    model = small_model(vocab_size=1024)
    asked = {"stop_strings": "☔"}
    request = prepare(model, torch.tensor([[1, 40, first]]), tokenizer=tokenizer, options=asked)
    assert [watch(request, row=0).add(rest[0])] == [False]
    one = watch(request, row=0)
    assert [one.add(token) for token in rest] == [False, True]


def test_each_row_ends_by_its_own_rule_and_stays_ended():
    watches = [StopWatch([[7]]) for _ in range(4)]
    ends = torch.tensor([2, 3])
    endings = torch.full((4,), RUNNING)
    endings = endings_after(torch.tensor([2, 7, 5, 5]), endings, ends, watches)
    assert endings.tolist() == [EOS, STOP, RUNNING, RUNNING]
    endings = endings_after(torch.tensor([7, 2, 3, 5]), endings, ends, watches)
    assert endings.tolist() == [EOS, STOP, EOS, RUNNING]


def test_a_token_that_is_both_counts_as_eos():
    found = endings_after(
        torch.tensor([2]), torch.tensor([RUNNING]), torch.tensor([2]), [StopWatch([[2]])]
    )
    assert found.tolist() == [EOS]
