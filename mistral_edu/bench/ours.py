"""This project as a peer: the plain model, and the engine.

Lesson: 14_the_full_7b.

Conventions
    The engine has a model of its own, so that it is loaded in the same way as everybody's.
    The plain model is used as a reader would: no cache is given, so it makes its own.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mistral_edu.bench.memory import bytes_held
from mistral_edu.bench.peers import PROMPT_CHUNK, Material, Peer
from mistral_edu.engine import Engine
from mistral_edu.heads import MistralForCausalLM

PLAIN, ENGINE = "plain", "engine"


class PlainSession:
    """The plain model with the rolling cache that it makes for itself."""

    def __init__(self, model: MistralForCausalLM) -> None:
        self.model = model
        self.cache: Any = None
        self.last: Tensor | None = None

    @torch.no_grad()
    def start(self, ids: Tensor) -> None:
        """Begin new texts."""
        self.cache = None
        for piece in ids.split(PROMPT_CHUNK, dim=1):
            self._feed(piece)

    @torch.no_grad()
    def step(self, ids: Tensor) -> None:
        """Continue each text by one token."""
        self._feed(ids[:, None])

    def _feed(self, ids: Tensor) -> None:
        output = self.model(
            ids.to(self.model.device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache, self.last = output.past_key_values, output.logits[:, -1]

    def logits(self) -> Tensor:
        """The last scores."""
        assert self.last is not None, "start comes first"
        return self.last.float().cpu()

    def cache_bytes(self) -> int:
        """Bytes behind the tensors of the cache."""
        return bytes_held([*self.cache.keys, *self.cache.values])

    def close(self) -> None:
        """Forget the cache."""
        self.cache = self.last = None


class EngineSession:
    """The engine, made for one batch size."""

    def __init__(self, engine: Engine) -> None:
        self.engine: Any = engine
        self.last: Tensor | None = None

    def start(self, ids: Tensor) -> None:
        """Begin new texts; the engine takes a long prompt in by pieces itself."""
        self.last = self.engine.prefill(ids)

    def step(self, ids: Tensor) -> None:
        """Continue each text by one token."""
        self.last = self.engine.step(ids)

    def logits(self) -> Tensor:
        """The last scores."""
        assert self.last is not None, "start comes first"
        return self.last.float().cpu()

    def cache_bytes(self) -> int:
        """What the engine says it holds."""
        return int(self.engine.cache_bytes)

    def close(self) -> None:
        """Forget the engine."""
        self.engine = self.last = None


class Plain:
    """The model of a folder, as `load` gives it."""

    def __init__(self, material: Material) -> None:
        load = partial(MistralForCausalLM.from_pretrained, device=material.device)
        self.model: Any = material.once("ours", lambda: load(material.folder))

    def session(self, batch: int, longest: int) -> PlainSession:
        """A batch of so many rows."""
        return PlainSession(self.model)

    def close(self) -> None:
        """Forget the model."""
        self.model = None


class Fast:
    """The engine, with the products that it finds fastest."""

    def __init__(self, material: Material) -> None:
        load = partial(MistralForCausalLM.from_pretrained, device=material.device)
        self.model: Any = material.once("engine's", lambda: load(material.folder))

    def session(self, batch: int, longest: int) -> EngineSession:
        """A batch of so many rows; an engine is made for one."""
        capacity = longest if self.model.config.sliding_window is None else None
        return EngineSession(Engine(self.model, batch, capacity=capacity))

    def close(self) -> None:
        """Forget the model."""
        self.model = None


PEERS = (
    Peer(PLAIN, lambda device, dtype: None, Plain),
    Peer(ENGINE, lambda device, dtype: None, Fast),
)
