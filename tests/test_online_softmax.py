"""Online softmax: exact after every tile, and the tiled sweep equals the oracle everywhere."""

import pytest
import torch

from mistral_edu import online_softmax
from mistral_edu.backends import eager_attention
from mistral_edu.online_softmax import absorb, nothing_yet, tiled_attention, tiles_to_visit
from mistral_edu.sliding_window import visible
from tests.attention_cases import every_case, tensors

INFINITE = float("inf")


def swept(scores, values, sizes):
    """The state after each chunk of keys."""
    running, states = nothing_yet(scores.shape[:-1], values.shape[-1]), []
    for s, v in zip(scores.split(sizes, dim=-1), values.split(sizes), strict=True):
        running = absorb(running, s, v)
        states.append(running)
    return states


@pytest.mark.parametrize("sizes", [[1] * 9, [9], [4, 5], [2, 3, 4]])
@pytest.mark.parametrize("scale", [0.1, 30.0, 3000.0])
def test_after_every_chunk_the_output_is_attention_to_the_keys_so_far(sizes, scale):
    scores, values = torch.randn(3, 9) * scale, torch.randn(9, 2)
    read = 0
    for size, state in zip(sizes, swept(scores, values, sizes), strict=True):
        read += size
        exact = scores[:, :read].softmax(dim=-1) @ values[:read]
        torch.testing.assert_close(state.output, exact)
        torch.testing.assert_close(state.greatest[:, 0], scores[:, :read].amax(dim=-1))


def test_a_row_that_meets_hidden_keys_first_is_not_spoilt():
    scores = torch.tensor([[-INFINITE, -INFINITE, 1.0, 2.0], [-INFINITE] * 4])
    values = torch.arange(4.0)[:, None]
    first, last = swept(scores, values, [2, 2])
    assert first.output.eq(0).all() and first.total.eq(0).all()
    expected = torch.tensor([1.0, 2.0]).softmax(dim=0) @ values[2:]
    torch.testing.assert_close(last.output, torch.stack([expected, torch.zeros(1)]))


@pytest.mark.parametrize("tile", [1, 3, 64])
def test_the_sweep_equals_the_oracle_wherever_tokens_can_stand(tile):
    for number, (name, q_at, k_at, window) in enumerate(every_case()):
        q, k, v = tensors(number, q_at, k_at)
        found = tiled_attention(q, k, v, q_at, k_at, window, tile)
        expected = eager_attention(q, k, v, q_at, k_at, window)
        torch.testing.assert_close(found, expected, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("window", [1, 3, 4, 5, 16, None])
@pytest.mark.parametrize("tile", [1, 2, 3, 8])
def test_a_tile_is_opened_exactly_if_it_holds_a_visible_pair(window, tile):
    at = torch.arange(13)[None]
    seen = visible(at, at, window)[0]
    visits = tiles_to_visit(at, at, window, tile)
    for row, queries in enumerate(seen.split(tile, dim=0)):
        for column, block in enumerate(queries.split(tile, dim=1)):
            assert bool(visits[row, column]) == bool(block.any())


def test_hidden_tiles_are_never_opened(monkeypatch):
    opened = []
    honest = online_softmax.absorb
    monkeypatch.setattr(online_softmax, "absorb", lambda *given: opened.append(1) or honest(*given))
    at = torch.arange(64)[None]
    q, k, v = tensors(0, at, at)
    tiled_attention(q, k, v, at, at, 8, tile=8)
    assert len(opened) == 1 + 7 * 2
