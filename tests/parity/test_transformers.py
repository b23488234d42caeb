"""Parity with the `transformers` implementation: same weights, random configurations.

Twenty configurations run here. `python -m tests.parity` compares 200 and prints the worst
difference of each kind.
"""

import pytest
import torch

from mistral_edu import MistralForCausalLM
from tests.models import difference, left_padded
from tests.parity.cases import CASES, FLOAT32_BOUND, Pair, bound_of, make_pair


@pytest.fixture(scope="module", params=range(20))
def pair(request) -> Pair:
    return make_pair(request.param)


@pytest.mark.parametrize("case", CASES)
def test_ours_equals_theirs(pair, case):
    for part, found in CASES[case](pair):
        assert found <= bound_of(case, part), (part, found)


@torch.no_grad()
def test_the_window_matters_in_every_configuration(pair):
    # Else the other tests could pass with a wrong window, or with none.
    window = pair.config.sliding_window
    for other in (None, window + 1) if window else (pair.span,):
        changed = MistralForCausalLM(pair.config.changed(sliding_window=other)).eval()
        changed.load_state_dict(pair.ours.state_dict())
        ids = pair.ids()
        gap = difference(changed(ids).logits, pair.theirs(ids).logits)
        assert gap > 100 * FLOAT32_BOUND


@torch.no_grad()
def test_greedy_generation_chooses_the_same_ids(pair):
    ids, mask = left_padded([pair.ids(1, n, seed=n)[0] for n in (2, 2 * pair.span + 1)])
    options = dict(max_new_tokens=2 * pair.span + 3, do_sample=False, pad_token_id=0)
    expected = pair.theirs.generate(ids, attention_mask=mask, eos_token_id=None, **options)
    found = pair.ours.generate(ids, attention_mask=mask, eos_token_id=(), **options)
    assert found.tolist() == expected.tolist()
