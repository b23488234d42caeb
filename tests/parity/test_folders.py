"""Saved folders cross over: `transformers` loads ours without a word, and we load theirs."""

import json
import logging
import warnings

import pytest
import torch
import transformers

from mistral_edu import MistralForCausalLM
from mistral_edu.heads import MistralForSequenceClassification
from tests.models import difference, random_ids, small_config

KINDS = {
    "causal": (MistralForCausalLM, transformers.MistralForCausalLM, {}),
    "tied": (MistralForCausalLM, transformers.MistralForCausalLM, {"tie_word_embeddings": True}),
    "wide": (MistralForCausalLM, transformers.MistralForCausalLM, {"head_dim": 16}),
    "no window": (MistralForCausalLM, transformers.MistralForCausalLM, {"sliding_window": None}),
    **{
        f"{labels} labels": (
            MistralForSequenceClassification,
            transformers.MistralForSequenceClassification,
            {"num_labels": labels, "pad_token_id": 0},
        )
        for labels in (1, 2, 3)
    },
}


@pytest.fixture(params=KINDS)
def kind(request):
    """Our class, theirs, and one of our models."""
    ours, theirs, changes = KINDS[request.param]
    torch.manual_seed(0)
    return ours, theirs, ours(small_config(rope_theta=5e5, **changes)).eval()


def load_theirs(kind, folder):
    """Their model from a folder, and all that was said while it loaded."""
    said = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = said.append
    logger = logging.getLogger("transformers")
    logger.addHandler(listener)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model, report = kind.from_pretrained(
                folder, attn_implementation="eager", output_loading_info=True
            )
    finally:
        logger.removeHandler(listener)
    said += [problem for problems in report.values() for problem in problems]
    return model.eval(), [*said, *caught]


@torch.no_grad()
def test_theirs_loads_our_folder_without_a_warning_and_computes_the_same(kind, tmp_path):
    _, theirs, model = kind
    model.save_pretrained(tmp_path)
    loaded, said = load_theirs(theirs, tmp_path)
    assert said == []
    ids = random_ids(model, 1, 15)
    assert difference(loaded(ids).logits, model(ids).logits) <= 1e-5
    assert loaded.config.num_labels == model.config.num_labels


@torch.no_grad()
def test_ours_loads_their_folder_and_computes_the_same(kind, tmp_path):
    ours, theirs, model = kind
    model.save_pretrained(tmp_path / "ours")
    loaded, _ = load_theirs(theirs, tmp_path / "ours")
    loaded.save_pretrained(tmp_path / "theirs")
    written = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert "rope_parameters" in written and "rope_theta" not in written, "the newer generation"
    again = ours.from_pretrained(tmp_path / "theirs")
    ids = random_ids(model, 1, 15)
    assert difference(again(ids).logits, model(ids).logits) <= 1e-6
    for name in ("rope_theta", "sliding_window", "head_dim", "num_labels", "rms_norm_eps"):
        assert getattr(again.config, name) == getattr(model.config, name), name
