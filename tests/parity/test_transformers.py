"""Parity with the `transformers` implementation: same weights, float32, random configurations.

Run it alone with `pytest tests/parity -s` to see the worst differences.
"""

import pytest
import torch
import transformers
from torch import Tensor

from mistral_edu import MistralForCausalLM
from tests.models import chunked_logits, difference, left_padded, random_config, random_ids

SEEDS = range(20)
BOUND = 1e-5
worst: dict[str, float] = {}


@pytest.fixture(scope="module", autouse=True)
def report_the_worst_differences():
    yield
    for name, value in worst.items():
        print(f"\nworst relative difference, {name}: {value:.1e}", end="")


@pytest.fixture(params=SEEDS)
def pair(request) -> tuple[MistralForCausalLM, transformers.MistralForCausalLM]:
    """Our model and theirs, with the same weights."""
    torch.manual_seed(request.param)
    ours = MistralForCausalLM(random_config(request.param)).eval()
    fields = {**ours.config.to_dict(), "pad_token_id": 0}
    config = transformers.MistralConfig(**fields, attn_implementation="eager")
    theirs = transformers.MistralForCausalLM(config).eval()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def expect_equal(name: str, found: Tensor, expected: Tensor) -> None:
    relative = difference(found, expected)
    worst[name] = max(worst.get(name, 0.0), relative)
    assert relative <= BOUND


@torch.no_grad()
def test_logits_without_a_cache_are_equal(pair):
    ours, theirs = pair
    ids = random_ids(ours, rows=2, length=3 * ours.config.sliding_window + 5)
    expected = theirs(ids, use_cache=False).logits
    expect_equal("no cache", ours(ids, use_cache=False).logits, expected)
    unlimited = MistralForCausalLM(ours.config).eval()
    unlimited.load_state_dict(ours.state_dict())
    for layer in unlimited.model.layers:
        layer.self_attn.window = None
    assert difference(unlimited(ids, use_cache=False).logits, expected) > 100 * BOUND, (
        "the window does not matter here, so this test shows nothing"
    )


@torch.no_grad()
def test_logits_through_the_cache_are_equal_for_every_chunk_size(pair):
    ours, theirs = pair
    window = ours.config.sliding_window
    length = 3 * window + 5
    ids = random_ids(ours, rows=2, length=length)
    expected = theirs(ids, use_cache=False).logits
    for size in {1, 2, window - 1, window, window + 1, 3 * window, length}:
        expect_equal(f"cached, {pair_name(size, window, length)}",
                     chunked_logits(ours, ids, size), expected)  # fmt: skip


def pair_name(size: int, window: int, length: int) -> str:
    """What a chunk size means, for the report."""
    names = {1: "step by step", 2: "chunks of 2", window - 1: "chunks of W − 1", length: "one shot"}
    named = {window: "chunks of W", window + 1: "chunks of W + 1", 3 * window: "chunks of 3W"}
    return {**named, **names}[size]


@torch.no_grad()
def test_left_padded_rows_equal_single_rows_and_transformers(pair):
    ours, theirs = pair
    window = ours.config.sliding_window
    texts = [random_ids(ours, 1, n, seed=n)[0] for n in (1, window, 3 * window + 2)]
    ids, mask = left_padded(texts)
    together = chunked_logits(ours, ids, size=window + 1, mask=mask)
    reference = theirs(ids, attention_mask=mask, use_cache=False).logits
    for row, text in enumerate(texts):
        alone = theirs(text[None], use_cache=False).logits[0]
        expect_equal("left-padded row against single row", together[row, -len(text) :], alone)
        expect_equal(
            "left-padded row against transformers' padded batch",
            together[row, -len(text) :],
            reference[row, -len(text) :],
        )


@torch.no_grad()
def test_greedy_generation_chooses_the_same_ids(pair):
    ours, theirs = pair
    window = ours.config.sliding_window
    texts = [random_ids(ours, 1, n, seed=n)[0] for n in (2, 2 * window + 1)]
    ids, mask = left_padded(texts)
    options = dict(max_new_tokens=2 * window + 3, do_sample=False, pad_token_id=0)
    expected = theirs.generate(ids, attention_mask=mask, eos_token_id=None, **options)
    found = ours.generate(ids, attention_mask=mask, eos_token_id=(), **options)
    assert found.tolist() == expected.tolist()
