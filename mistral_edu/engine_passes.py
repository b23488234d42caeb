"""The engine's two passes: many tokens into the ring, and one token for each row.

    chunk:  attend to (ring ∪ chunk), then store the chunk
    step:   store the token, then attend to the ring

Read `chunk` beside `MistralModel.forward`: positions say who sees whom, the model's own backend
attends. In a step nothing is left to say, for a token sees all that its ring holds.

Source: "Mistral 7B" (arXiv 2310.06825), section 2, "Rolling Buffer Cache", "Pre-fill and Chunking".
Lesson: 14_the_full_7b.

Conventions
    A step does the same operations on the same memory whatever is in it, so that it can be
    recorded; but on a CPU it reads only the filled part of the ring.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mistral_edu import backends, flash_attention, flash_kernels
from mistral_edu.engine_attention import OverRing, over_filled, over_filled_by_flash
from mistral_edu.engine_compiled import CompiledLayers, why_no_step
from mistral_edu.engine_kernel import name_of
from mistral_edu.engine_layer import FusedLayer, require_fusable
from mistral_edu.engine_linear import fuse
from mistral_edu.engine_ring import StaticRing, ring_positions
from mistral_edu.engine_rows import CompiledRows, PlainRows, Rows, why_no_rows
from mistral_edu.engine_ways import CLEARLY, COMPILED, MEASURED, PLAIN
from mistral_edu.feed_forward import activation
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.model import DecoderLayer
from mistral_edu.rope import rope_frequencies

STEPS = 5  # that are timed to find the faster way


def over_ring_for(model: MistralForCausalLM) -> OverRing:
    """How a query attends to a ring whose shape must not change: by flash if the model does."""
    kernels = None
    if model.attention_backend == "flash":
        kernels, _ = flash_kernels.find_kernels()
    head_dim = model.config.head_dim
    fits = head_dim % 8 == 0 and head_dim <= flash_attention.LARGEST_HEAD
    if kernels is None or not fits or flash_attention.why_unfit(model.device, model.dtype):
        return over_filled
    return over_filled_by_flash(kernels)


def rows_for(model: MistralForCausalLM, like: Tensor, multiply: str) -> Rows:
    """What works between products: compiled where that can be had and nothing else is asked for."""
    wanted = multiply in (MEASURED, COMPILED)
    if wanted and why_no_rows(like, model.config.hidden_act) is None:
        return CompiledRows(like.dtype)
    return PlainRows(activation(model.config.hidden_act))


def require_one_type(model: MistralForCausalLM) -> None:
    """Refuse a model cast in part: what is compiled reads all its numbers as one type."""
    types = sorted({name_of(parameter.dtype) for parameter in model.parameters()})
    if len(types) > 1:
        raise ValueError(
            f"the model's weights are {' and '.join(types)}, and the engine computes in one type: "
            "cast it with model.to(torch.bfloat16), for example"
        )


class Passes:
    """A model's weights, fused, over a ring.

    Args:
        model: whose weights to take (see `engine_linear`).
        ring: on the model's device.
        multiply: see `engine_ways.ChosenProduct`.
        static: whether a step must keep its shapes, or may read the filled part of a ring only.
    """

    def __init__(
        self,
        model: MistralForCausalLM,
        ring: StaticRing,
        *,
        multiply: str = MEASURED,
        static: bool = False,
    ) -> None:
        config, device = model.config, model.device
        rows = len(ring.counts)
        layers = cast(list[DecoderLayer], list(model.model.layers))
        require_one_type(model)
        for layer in layers:  # all of them before the weights of the first are touched
            require_fusable(layer)
        self.ring, self.static = ring, static
        self.backend, self.over_ring = backends.get(model.attention_backend), over_ring_for(model)
        self.frequencies = rope_frequencies(config.head_dim, config.rope_theta).to(device)
        self.embeddings, self.norm = model.get_input_embeddings(), model.model.norm
        self.head = fuse([model.lm_head], rows, multiply)
        between = rows_for(model, ring.keys[0], multiply)
        self.layers = [FusedLayer.of(layer, rows, multiply, between) for layer in layers]
        self.compiled: CompiledLayers | None = None
        wanted = multiply in (MEASURED, COMPILED) and not static
        if wanted and not why_no_step(self.layers, ring, config):
            compiled = CompiledLayers(self.layers, ring, config)
            taken = multiply == COMPILED or self._is_faster(compiled)
            self.compiled = compiled if taken else None

    def _is_faster(self, compiled: CompiledLayers) -> bool:
        """Whether steps with a full ring are clearly faster in one call than one by one."""
        ring = self.ring
        ids = torch.zeros(len(ring.counts), dtype=torch.long, device="cpu")
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(STEPS + 1):  # the first is to warm up
            for way, times in seconds.items():
                self.compiled = compiled if way else None
                ring.seen.fill_(ring.slots)
                ring.counts = [ring.slots] * len(ids)
                began = time.perf_counter()
                self.step(ids)
                times.append(time.perf_counter() - began)
        ring.reset()
        one_by_one, one_call = (statistics.median(seconds[way][1:]) for way in (False, True))
        return one_call < CLEARLY * one_by_one

    @property
    def ways(self) -> dict[str, str]:
        """How a step is made, and each of its products if they are called one by one."""
        if self.compiled is not None:
            return {"step": COMPILED, "head": self.head.way}
        return {"step": PLAIN, **self.layers[0].ways, "head": self.head.way}

    def _turn(self, positions: Int[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
        # As `rope.rotation`, whose frequencies come from the CPU: a recording may not wait for it.
        angles = positions[:, None, :, None].float() * self.frequencies  # → (B, 1, T, D/2)
        return angles.cos(), angles.sin()

    def chunk(self, ids: Int[Tensor, "B T"], real: Bool[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        """Pass tokens through the layers and into the ring; return what becomes of the last column.

        Args:
            ids: on any device.
            real: which of them are not padding; on the CPU.
        """
        ring, used = self.ring, self.ring.filled[1]
        here = real.to(ring.seen.device)
        counted = here.long().cumsum(dim=1) - 1
        positions = (ring.seen[:, None] + counted).masked_fill(~here, -1)
        held = ring_positions(ring.seen, ring.slots)[:, :used]
        attended = torch.cat([held, positions], dim=1)
        landing, turn = ring.landing(positions), self._turn(positions)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = ring.with_chunk(layer, k, v, used)
            out = self.backend(q, keys, values, positions, attended, ring.window)
            ring.store(layer, k, v, landing)
            return out

        x = self._through(self.embeddings(ids.to(ring.seen.device)), turn, attend)
        ring.seen += here.sum(dim=1)
        ring.count(real.sum(dim=1).tolist())
        return self.norm(x[:, -1])

    def step(self, ids: Int[Tensor, "B"]) -> Float[Tensor, "B V"]:
        """One token for each row: `ids` into the ring, scores of the next token out.

        The ring's `seen` moves on; its `counts` are for the caller to keep, who is not recorded.
        """
        ring = self.ring
        turn, slots = self._turn(ring.seen[:, None]), ring.seen % ring.slots
        fill = (ring.seen + 1).clamp(max=ring.slots)
        over_ring = self.over_ring
        if not self.static:
            least, most = (min(filled + 1, ring.slots) for filled in ring.filled)
            over_ring = partial(over_filled, least=least, most=most)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = ring.keys[layer], ring.values[layer]
            keys[ring.rows, :, slots], values[ring.rows, :, slots] = k[:, :, 0], v[:, :, 0]
            return over_ring(q, keys, values, fill)

        if self.compiled is not None:
            row_turn = (turn[0][:, 0, 0], turn[1][:, 0, 0])  # (B, 1, 1, D/2) → (B, D/2)
            x = self.compiled(self.embeddings(ids), row_turn, slots, fill).to(
                self.norm.weight.dtype
            )
        else:
            x = self._through(self.embeddings(ids)[:, None], turn, attend)[:, 0]
        ring.seen += 1
        return self.scores(self.norm(x))

    def scores(self, x: Float[Tensor, "B C"]) -> Float[Tensor, "B V"]:
        """The head: in float32, whatever the weights' type."""
        return self.head(x).float()

    def _through(
        self,
        x: Float[Tensor, "B T C"],
        turn: tuple[Tensor, Tensor],
        attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
    ) -> Float[Tensor, "B T C"]:
        for index, layer in enumerate(self.layers):
            x = layer(x, turn, partial(attend, index))
        return x
