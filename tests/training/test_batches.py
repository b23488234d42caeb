"""Packing: every document whole, apart from the others, and nothing but documents counted."""

import torch

from mistral_edu import MistralConfig, MistralForCausalLM
from mistral_edu.training import banded
from mistral_edu.training.batches import pack
from mistral_edu.training.documents import Document
from mistral_edu.training.parallel import token_losses

WINDOW = 8
CONFIG = MistralConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    sliding_window=WINDOW,
    initializer_range=0.3,
)


def document(length, first):
    ids = [1, *((first + i) % 61 + 3 for i in range(length - 1))]
    return Document(ids, [1.0] * length)


def packed(lengths, rows=2, context=32):
    documents = [document(length, 7 * i) for i, length in enumerate(lengths)]
    return documents, pack(iter(documents), rows, context, WINDOW)


def runs(batch):
    """The documents as they lie in the rows, found by their begin token."""
    found = []
    for ids, positions in zip(batch.ids.tolist(), batch.positions.tolist(), strict=True):
        for token, position in zip(ids, positions, strict=True):
            if position >= 0:
                found.append([token]) if token == 1 else found[-1].append(token)
    return found


def test_every_document_lies_whole_in_one_row():
    documents, batch = packed([9, 20, 12, 11, 5, 3])
    assert sorted(runs(batch)) == sorted(one.ids for one in documents)


def test_a_document_loses_and_learns_the_same_alone_and_packed():
    torch.manual_seed(0)
    model = MistralForCausalLM(CONFIG, banded.register()).eval()
    _, batch = packed([9, 20, 12, 11, 5, 3])
    together = token_losses(model, batch)[batch.weights > 0]
    apart = []
    for ids in runs(batch):
        alone = pack(iter([Document(ids, [1.0] * len(ids))]), 1, len(ids), WINDOW)
        apart.append(token_losses(model, alone)[alone.weights > 0])
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-4)


def test_begin_tokens_and_padding_count_nothing():
    _, batch = packed([9, 20])
    assert batch.weights[batch.positions < 0].sum() == 0
    assert batch.weights[batch.ids == 1].sum() == 0
    assert batch.weights.sum() == 9 + 20 - 2


def test_a_document_longer_than_a_row_is_cut():
    _, batch = packed([50], rows=1)
    assert batch.positions.tolist() == [list(range(32))]


def test_banded_attention_equals_the_oracle():
    from mistral_edu import backends

    generator = torch.Generator().manual_seed(0)
    for length in (1, 7, 8, 15, 16, 24, 40, 64):
        q = torch.randn(2, 4, length, 6, generator=generator)
        k, v = (torch.randn(2, 2, length, 6, generator=generator) for _ in range(2))
        at = torch.arange(length).repeat(2, 1)
        at[1, length // 2 :] += WINDOW  # A second document in the row.
        at[1, -1] = -1
        expected = backends.eager_attention(q, k, v, at, at, WINDOW)
        torch.testing.assert_close(banded.banded_attention(q, k, v, at, at, WINDOW), expected)
