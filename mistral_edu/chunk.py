"""One chunk of tokens on its way through the layers: where it stands, what it sees, what is kept.

Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Pre-fill and Chunking".
Lesson: 09_the_full_model.

Conventions
    Everything that is the same in all layers is settled here once: positions, angles, the cache's
    plan, and the function that attends.
    Attention weights, asked for or needed under a 4D mask, are computed eagerly by any backend.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu.backends import AttentionFunction, attention_weights, weighted_sum
from mistral_edu.cache_step import Step, require_distinct
from mistral_edu.config import MistralConfig
from mistral_edu.custom_mask import as_bias, biased_weights, over_cache, over_chunk
from mistral_edu.inputs import real_tokens, token_positions
from mistral_edu.outputs import Past
from mistral_edu.past import open_cache
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.rope import rotation


@dataclass(frozen=True)
class Chunk:
    """What every layer needs to know about the tokens it is given.

    Args:
        positions: absolute position of each token, −1 for padding.
        key_positions: of each key attended to: the cache's, then the chunk's.
        turn: cosine and sine of the positions (`rope.rotation`).
        window: W, or None.
        backend: the function that attends.
        bias: of a 4D mask, which then decides instead of positions and window.
        weigh: whether the attention weights are wanted too.
        cache, step: where keys and values are kept, and the plan for it.
        stores: whether the chunk is kept, or only looks at what is.
    """

    positions: Int[Tensor, "B T"]
    key_positions: Int[Tensor, "B S"]
    turn: tuple[Tensor, Tensor]
    window: int | None
    backend: AttentionFunction
    bias: Float[Tensor, "rows heads T S"] | None = None
    weigh: bool = False
    cache: RollingCache | None = None
    step: Step | None = None
    stores: bool = False

    def remember(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put one layer's keys and values into the cache, if any; return all to attend to."""
        if self.cache is None or self.step is None:
            return k, v
        return self.cache.update(layer, k, v, self.step)

    def attend(
        self,
        q: Float[Tensor, "B H T D"],
        k: Float[Tensor, "B Hkv S D"],
        v: Float[Tensor, "B Hkv S D"],
        heads: list[int] | None = None,
    ) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B H T S"] | None]:
        """What each query takes from the values it may see; and the weights, if they are wanted.

        `heads` names the query heads in `q` if not all are left; a mask by heads needs to know.
        """
        at = (self.positions, self.key_positions, self.window)
        if self.bias is not None:
            by_head = heads is not None and self.bias.shape[1] > 1
            weights = biased_weights(q, k, self.bias[:, heads] if by_head else self.bias)
        elif self.weigh:
            weights = attention_weights(q, k, *at)
        else:
            return self.backend(q, k, v, *at), None
        return weighted_sum(weights, v), weights if self.weigh else None

    def readable(self, weights: Float[Tensor, "B H T S"]) -> Float[Tensor, "B H T S"]:
        """Attention weights with the cache's columns in the order of their positions."""
        if self.step is None:
            return weights
        return weights.take_along_dim(self.step.order[:, None, None], dim=3)

    def past(self, as_pairs: bool) -> Past | None:
        """The cache to hand back, if the chunk was kept: as pairs if it came in as pairs."""
        if self.cache is None or not self.stores:
            return None
        return self.cache.to_legacy() if as_pairs else self.cache

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Commit the chunk to the cache if all goes well inside; else undo what it changed."""
        if self.cache is None or self.step is None:
            yield
            return
        try:
            yield
        except BaseException:  # an interrupt too: the cache must stay usable
            self.cache.rollback(self.step)
            raise
        if self.stores:
            self.cache.commit(self.step)


def plan_chunk(
    config: MistralConfig,
    x: Float[Tensor, "B T C"],
    backend: AttentionFunction,
    *,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past: Any = None,
    store: bool = False,
    weigh: bool = False,
) -> Chunk:
    """Check how a chunk fits its mask, positions and cache, and settle where it goes.

    Args:
        config: the architecture.
        x: the chunk's embeddings.
        backend: the function that attends.
        attention_mask, position_ids, past: as in `MistralModel.forward`.
        store: whether to keep the chunk in the cache; one is made if there is none.
        weigh: whether the attention weights are wanted.

    >>> import torch
    >>> from mistral_edu.backends import eager_attention
    >>> chunk = plan_chunk(MistralConfig(), torch.zeros(1, 3, 4096), eager_attention)
    >>> chunk.positions, chunk.cache is None
    (tensor([[0, 1, 2]]), True)
    """
    batch, tokens, _ = x.shape
    real = real_tokens(attention_mask, batch, tokens, so_far=past is not None).to(x.device)
    mask = attention_mask if attention_mask is not None and attention_mask.dim() == 4 else None
    cache = open_cache(past, config, x, real, attention_mask, position_ids, store)
    positions = token_positions(real, position_ids, None if cache is None else cache.lengths)
    if mask is None and position_ids is not None:
        require_distinct(
            positions,
            "who sees whom goes by position, so place packed texts at least W apart, or say it "
            "with an attention_mask of four axes",
        )
    step = None
    if cache is not None:
        step = cache.begin(positions) if store else cache.peek(positions)
    keys = positions if step is None else step.key_positions
    bias = None
    if mask is not None:
        bias = as_bias(mask.to(x.device), batch, config.num_attention_heads, tokens)
        bias = over_chunk(bias, positions) if past is None else over_cache(bias, keys)
    turn = rotation(positions, config.head_dim, config.rope_theta)
    return Chunk(
        positions, keys, turn, config.sliding_window, backend, bias, weigh, cache, step, store
    )
