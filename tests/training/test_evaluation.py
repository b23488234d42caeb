"""Marking: the marks agree with greedy decoding, and the groups with what they say."""

import torch

from mistral_edu import MistralConfig, MistralForCausalLM
from mistral_edu.training.chat_evaluation import (
    conversation,
    dialogue_items,
    share_that_stops,
)
from mistral_edu.training.evaluation import mark, recall_items, shares, story_items
from tests.training_toys import tokenizer


def random_model():
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=500,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        sliding_window=16,
        initializer_range=0.5,
    )
    return MistralForCausalLM(config).eval()


def greedy(model, item):
    ids = torch.tensor([item.ids[: item.start]])
    size = item.end - item.start + 1
    written = model.generate(ids, max_new_tokens=size, eos_token_id=())[0, item.start :].tolist()
    return written[:-1] == item.ids[item.start : item.end] and written[-1] in item.stops


def test_marks_agree_with_greedy_decoding():
    model = random_model()
    items = story_items(tokenizer(), 3, 4, window=16) + recall_items(tokenizer(), [40], 3)
    for item in items[::2]:  # Let half of them be right: put in what the model itself would write.
        ids = torch.tensor([item.ids[: item.start]])
        size = item.end - item.start
        own = model.generate(ids, max_new_tokens=size + 1, eos_token_id=())[0].tolist()
        item.ids[:] = own
        object.__setattr__(item, "stops", (own[-1],))
    right = mark(model, items)
    assert right == [greedy(model, item) for item in items]
    assert all(right[::2]) and not all(right)


def test_every_answer_counts_in_all_and_in_its_kind():
    items = story_items(tokenizer(), 3, 10, window=16)
    counted = shares(items, [True] * len(items))
    assert counted["all"] == (1.0, len(items))
    kinds = sum(n for label, (_, n) in counted.items() if label.startswith("asks: "))
    shapes = sum(n for label, (_, n) in counted.items() if label.startswith("shape: "))
    assert kinds == shapes == len(items)


def test_the_marked_span_is_the_answer():
    for item in recall_items(tokenizer(), [30], 10, facts=2):
        text = tokenizer().decode(item.ids[: item.start])
        assert text.endswith("Answer:")
        assert tokenizer().decode(item.ids[item.start : item.end]).strip().lower() in text.lower()


def test_dialogue_items_end_at_an_assistant_s_end_token():
    items = dialogue_items(tokenizer(), "facts", 0, 6)
    assert {label for item in items for label in item.labels} >= {"facts, first turn"}
    assert all(item.ids[item.end] == tokenizer().eos_id for item in items)


def test_dialogues_as_they_come_are_labelled_by_place_and_system_line_alone():
    items = dialogue_items(tokenizer(), None, 0, 30)
    labels = {label for item in items for label in item.labels}
    assert labels == {
        "all, first turn", "all, second turn", "all, later turns", "with a system line",
        "without one",
    }  # fmt: skip


def test_a_model_that_never_ends_is_caught():
    model = random_model()
    assert 0 <= share_that_stops(model, tokenizer(), seed=0, count=2) <= 1
    torch.nn.init.zeros_(model.lm_head.weight)  # Every score is equal: the first id wins, not eos.
    assert share_that_stops(model, tokenizer(), seed=0, count=2) == 0.0


def test_in_a_conversation_the_answers_are_the_model_s_own():
    model = random_model()
    torch.nn.init.zeros_(model.lm_head.weight)  # The first id wins, 48 times.
    text = conversation(model, tokenizer(), 3)
    lines = [line for line in text.split("\n") if line.startswith(("user:", "assistant:"))]
    assert len(lines) >= 2 and lines[-1].startswith("assistant:")
    unknown = tokenizer().decode([0] * 48)
    assert all(line == f"assistant: {unknown}" for line in lines if line.startswith("assistant:"))
