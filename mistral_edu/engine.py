"""The engine: the same model at full speed, for generating text and nothing else.

    prefill: chunk by chunk through the ring, at most `max_chunk` tokens in memory at once
    step:    one token for each row, always the same operations on the same memory

What the plain model settles anew in every pass is settled here once: shapes, slots, who sees whom.
So a step is little more than reading the weights, and on a GPU it is recorded once and replayed.

Source: "Mistral 7B" (arXiv 2310.06825), section 2; Pope et al., "Efficiently Scaling Transformer
Inference" (arXiv 2211.05102), for what bounds a step.
Lesson: 14_the_full_7b.

Conventions
    No gradients. Logits equal the plain model's up to the rounding of sums in another order.
    The engine and its model share their weights (see `engine_linear`): change them in place and
    the engine follows; move or cast the model and make a new engine.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu import backends
from mistral_edu.engine_attention import over_filled
from mistral_edu.engine_layer import FusedLayer
from mistral_edu.engine_linear import fuse
from mistral_edu.engine_ring import Landing, StaticRing, ring_positions
from mistral_edu.engine_steps import steps
from mistral_edu.generation import collect
from mistral_edu.generation_config import GenerationConfig
from mistral_edu.generation_request import checked_mask, prepare
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.rope import rope_frequencies
from mistral_edu.streamers import Streamer


class Engine:
    """A language model set up for generating with one batch size.

    Args:
        model: whose weights to run.
        batch_size: B, rows that are continued at once.
        max_chunk: tokens of the prompt, over all rows, that go through the layers at once.
        capacity: tokens of prompt and answer together; needed if the model has no window.

    >>> from mistral_edu import load
    >>> model, tokenizer = load("tiny")
    >>> engine, ids = Engine(model), torch.tensor([tokenizer.encode("It was a windy")])
    >>> logits = engine.prefill(ids)
    >>> torch.allclose(logits, model(ids).logits[:, -1], atol=1e-4)
    True
    >>> engine.step(logits.argmax(dim=-1)).shape, engine.cache_bytes
    (torch.Size([1, 1024]), 262144)
    """

    def __init__(
        self,
        model: MistralForCausalLM,
        batch_size: int = 1,
        *,
        max_chunk: int = 2048,
        capacity: int | None = None,
    ) -> None:
        self.model = model
        self.config, self.batch_size, self.max_chunk = model.config, batch_size, max_chunk
        self.device, self.dtype = model.device, model.dtype
        self.backend = backends.get(model.attention_backend)
        self.embeddings = model.get_input_embeddings()
        self.layers = [FusedLayer.of(layer) for layer in model.model.layers]
        self.norm, self.head = model.model.norm, fuse([model.lm_head])
        self.frequencies = rope_frequencies(self.config.head_dim, self.config.rope_theta).to(
            self.device
        )
        self.ring = StaticRing(
            self.config, batch_size, capacity=capacity, dtype=self.dtype, device=self.device
        )

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values; the same before, during and after any text."""
        return self.ring.nbytes

    @torch.no_grad()
    def prefill(
        self, ids: Int[Tensor, "B T"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "B V"]:
        """Begin new texts with prompts, padded on the left; return the scores of what comes next.

        Args:
            ids: a prompt for each row.
            attention_mask: (B, T), 0 marks padding.

        Raises:
            ValueError: for another batch size, padding on the right, or more than the capacity.
        """
        real = checked_mask(ids, attention_mask).cpu()
        self._require_batch(len(ids))
        self.ring.reset()
        self.ring.require_room(int(real.sum(dim=1).max()))
        size = max(1, self.max_chunk // self.batch_size)
        for start in range(0, ids.shape[1], size):
            hidden = self._chunk(ids[:, start : start + size], real[:, start : start + size])
        return self.head(hidden).float()

    @torch.no_grad()
    def step(self, ids: Int[Tensor, "B"]) -> Float[Tensor, "B V"]:
        """Continue each row by one token; return the scores of what comes next."""
        self._require_batch(len(ids))
        self.ring.require_room(1)
        logits = self._step(ids.to(self.device))
        self.ring.advance([1] * self.batch_size)
        return logits

    def generate(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Tensor | None = None,
        config: GenerationConfig | None = None,
        streamer: Streamer | None = None,
        tokenizer: Any = None,
        **options: Any,
    ) -> Int[Tensor, "B S"]:
        """Continue each row; arguments and result as in `generation.generate`, but no beams."""
        request = prepare(self.model, input_ids, attention_mask, config, tokenizer, options)
        return collect(steps(self, request), request, streamer).sequences

    def _require_batch(self, rows: int) -> None:
        if rows != self.batch_size:
            raise ValueError(
                f"ids has {rows} rows, but the engine was made for batch_size={self.batch_size}: "
                f"give as many, or make an Engine(model, batch_size={rows})"
            )

    def _turn(self, positions: Int[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
        angles = positions[:, None, :, None].float() * self.frequencies  # → (B, 1, T, D/2)
        return angles.cos(), angles.sin()

    def _chunk(self, ids: Int[Tensor, "B T"], real: Tensor) -> Float[Tensor, "B C"]:
        """Pass a chunk through the layers and the ring; return what is left of its last column."""
        ring, real_here = self.ring, real.to(self.device)
        counted = real_here.long().cumsum(dim=1) - 1
        positions = (ring.seen[:, None] + counted).masked_fill(~real_here, -1)
        used = ring.filled[1]
        before = ring_positions(ring.seen, ring.slots)[:, :used]
        at = (positions, torch.cat([before, positions], dim=1), ring.window)
        landing, turn = ring.landing(positions), self._turn(positions)
        x = self.embeddings(ids.to(self.device))
        for index, layer in enumerate(self.layers):
            x = layer(x, turn, self._over_chunk(index, used, landing, at))
        ring.advance(real.sum(dim=1).tolist())
        return self.norm(x[:, -1])

    def _over_chunk(self, index: int, used: int, landing: Landing, at: tuple):  # noqa: ANN202
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            ring = self.ring
            old = (ring.keys[index][:, :, :used], ring.values[index][:, :, :used])
            seen_k, seen_v = (torch.cat([a, b], dim=2) for a, b in zip(old, (k, v), strict=True))
            out = self.backend(q, seen_k, seen_v, *at)
            ring.store(index, k, v, landing)
            return out

        return attend

    def _step(self, ids: Int[Tensor, "B"]) -> Float[Tensor, "B V"]:
        ring = self.ring
        turn, slots = self._turn(ring.seen[:, None]), ring.seen % ring.slots
        fill = (ring.seen + 1).clamp(max=ring.slots)
        least, most = (min(n + 1, ring.slots) for n in ring.filled)

        def attend_in(index: int):  # noqa: ANN202
            def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys, values = ring.keys[index], ring.values[index]
                keys[ring.rows, :, slots], values[ring.rows, :, slots] = k[:, :, 0], v[:, :, 0]
                return over_filled(q, keys, values, fill, least, most)

            return attend

        x = self.embeddings(ids)[:, None]
        for index, layer in enumerate(self.layers):
            x = layer(x, turn, attend_in(index))
        return self.head(self.norm(x[:, 0])).float()
