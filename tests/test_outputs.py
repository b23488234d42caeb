"""Outputs: named fields, and the same as a tuple in the documented order."""

import pytest
import torch

from mistral_edu import RollingCache
from mistral_edu.heads import MistralForSequenceClassification
from tests.models import random_ids, small_config, small_model

ALL = dict(output_hidden_states=True, output_attentions=True)
ORDER = ["logits", "past_key_values", "hidden_states", "attentions"]


def models():
    model = small_model()
    classifier = MistralForSequenceClassification(small_config(pad_token_id=0)).eval()
    return [
        (model.model, ["last_hidden_state", *ORDER[1:]], None),
        (model, ["loss", *ORDER], torch.full((2, 4), 5)),
        (classifier, ["loss", *ORDER], torch.tensor([0, 1])),
    ]


@pytest.mark.parametrize("index", range(3))
def test_tuples_come_in_the_documented_order(index):
    model, names, labels = models()[index]
    ids = torch.full((2, 4), 5)
    given = {} if labels is None else {"labels": labels}
    named = model(ids, **given, **ALL)
    plain = model(ids, **given, **ALL, return_dict=False)
    assert isinstance(plain, tuple)
    assert len(plain) == len(names) == len(named) == len(list(named))
    for place, name in enumerate(names):
        assert type(plain[place]) is type(named[name]) is type(getattr(named, name))
        assert named[place] is named[name]
        if isinstance(plain[place], torch.Tensor):
            assert torch.equal(plain[place], named[name])


def test_what_is_absent_takes_no_place_in_the_tuple():
    model = small_model()
    ids = random_ids(model, 1, 4)
    assert [type(x) for x in model(ids, return_dict=False)] == [torch.Tensor, RollingCache]
    (logits,) = model(ids, use_cache=False, return_dict=False)
    assert logits.shape == (1, 4, 64)
    logits, hidden = model(ids, use_cache=False, output_hidden_states=True, return_dict=False)
    assert isinstance(hidden, tuple) and len(hidden) == 3


def test_shapes_are_the_documented_ones():
    model = small_model()
    ids = random_ids(model, 2, 6)
    output = model(ids, labels=ids, **ALL)
    assert output.loss.shape == ()
    assert output.logits.shape == (2, 6, 64)
    assert [x.shape for x in output.hidden_states] == [(2, 6, 32)] * 3
    assert [x.shape for x in output.attentions] == [(2, 4, 6, 6)] * 2
    for key, value in output.past_key_values:
        assert key.shape == value.shape == (2, 2, 4, 8), "key/value heads, and the window's tokens"
