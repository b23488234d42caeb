"""This project as a peer: the plain model, and the engine.

Lesson: 14_the_full_7b.

Conventions
    Both run the same model object, loaded once: the engine shares its weights.
    The plain model is used as a reader would: no cache is given, so it makes its own.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mistral_edu.bench.memory import bytes_held
from mistral_edu.bench.peers import PROMPT_CHUNK, Material, Peer
from mistral_edu.heads import MistralForCausalLM

if TYPE_CHECKING:
    from mistral_edu.engine import Engine

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

    def __init__(self, engine: "Engine") -> None:
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


class Ours:
    """The model of a folder, run plainly or by the engine."""

    def __init__(self, material: Material, with_engine: bool) -> None:
        load = partial(MistralForCausalLM.from_pretrained, device=material.device)
        self.model: Any = material.once("ours", lambda: load(material.folder))
        self.with_engine = with_engine

    def session(self, batch: int, longest: int) -> PlainSession | EngineSession:
        """A batch of so many rows."""
        if not self.with_engine:
            return PlainSession(self.model)
        from mistral_edu.engine import Engine

        no_window = self.model.config.sliding_window is None
        capacity = {"capacity": longest} if no_window else {}
        return EngineSession(Engine(self.model, batch_size=batch, **capacity))

    def close(self) -> None:
        """Forget the model."""
        self.model = None


def why_no_engine(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the engine cannot run, or None."""
    try:
        from mistral_edu.engine import Engine  # noqa: F401
    except ImportError as problem:
        return f"mistral_edu.engine cannot be imported: {problem}"
    return None


PEERS = (
    Peer(PLAIN, lambda device, dtype: None, partial(Ours, with_engine=False)),
    Peer(ENGINE, why_no_engine, partial(Ours, with_engine=True)),
)
