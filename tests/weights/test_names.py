"""The map between the two layouts names every tensor of the model, and no other."""

import math

from mistral_edu import MistralConfig
from mistral_edu.weights.names import entries
from tests.models import small_model


def test_the_map_is_the_released_model():
    released = entries(MistralConfig.mistral_7b_v0_1())
    assert len(released) == 291 == 9 * 32 + 3
    assert sum(math.prod(entry.shape) for entry in released) == 7_241_732_096
    heads = {entry.original: entry.heads for entry in released if entry.heads}
    assert len(heads) == 64
    assert heads["layers.31.attention.wq.weight"] == 32
    assert heads["layers.31.attention.wk.weight"] == 8


def test_the_map_names_every_tensor_of_our_model_with_its_shape():
    for changes in ({}, {"num_key_value_heads": 4}, {"tie_word_embeddings": True, "head_dim": 16}):
        model = small_model(**changes)
        state = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            del state["lm_head.weight"]
        assert {e.hugging_face: e.shape for e in entries(model.config)} == state
