"""Hugging Face transformers as a peer: three caches and kernels of the same model.

    transformers            DynamicCache(config), fused attention: what `generate` does by itself
    transformers-compiled   StaticCache, and the step through torch.compile
    transformers-flash      DynamicCache(config), flash-attn, on a GPU

Lesson: 14_the_full_7b.

Conventions
    The first and the second share one model. Its cache is made with the config, or it would grow
    without end. Compiling takes a minute or more and happens in the blocks that are discarded, so
    that peer is on request.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mistral_edu.bench.memory import bytes_held
from mistral_edu.bench.peers import PROMPT_CHUNK, Material, Peer

DYNAMIC, COMPILED, FLASH = "transformers", "transformers-compiled", "transformers-flash"
KERNELS = {DYNAMIC: "sdpa", COMPILED: "sdpa", FLASH: "flash_attention_2"}


class TransformersSession:
    """The model with one of its caches.

    Args:
        model: of transformers.
        new_cache: makes an empty cache.
        step: the model's forward for one token, compiled or not.
    """

    def __init__(
        self, model: Any, new_cache: Callable[[], Any], step: Callable[..., Any] | None = None
    ) -> None:
        self.model, self.new_cache = model, new_cache
        self.one_token = model if step is None else step
        self.cache: Any = None
        self.last: Tensor | None = None

    @torch.no_grad()
    def start(self, ids: Tensor) -> None:
        """Begin new texts."""
        self.cache = self.new_cache()
        for piece in ids.split(PROMPT_CHUNK, dim=1):
            self._feed(self.model, piece)

    @torch.no_grad()
    def step(self, ids: Tensor) -> None:
        """Continue each text by one token."""
        self._feed(self.one_token, ids[:, None])

    def _feed(self, forward: Callable[..., Any], ids: Tensor) -> None:
        output = forward(
            input_ids=ids.to(self.model.device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        # A copy, for a compiled step writes its next result over this one.
        self.last = output.logits[:, -1].clone()

    def logits(self) -> Tensor:
        """The last scores."""
        assert self.last is not None, "start comes first"
        return self.last.float().cpu()

    def cache_bytes(self) -> int:
        """Bytes behind the tensors of the cache."""
        return bytes_held(t for layer in self.cache.layers for t in (layer.keys, layer.values))

    def close(self) -> None:
        """Forget the cache."""
        self.cache = self.last = None


class Transformers:
    """The model of a folder in transformers, by one of the three names."""

    def __init__(self, material: Material, name: str) -> None:
        import transformers

        def load() -> Any:
            model: Any = transformers.MistralForCausalLM.from_pretrained(
                material.folder, attn_implementation=KERNELS[name], dtype=material.dtype
            )
            return model.to(material.device).eval()

        self.model: Any = material.once(f"transformers {KERNELS[name]}", load)
        self.step = None
        if name == COMPILED:
            mode = "reduce-overhead" if material.device.type == "cuda" else None
            self.step = torch.compile(self.model, mode=mode)
        self.compiled = name == COMPILED

    def session(self, batch: int, longest: int) -> TransformersSession:
        """A batch of so many rows, none longer than `longest` tokens."""
        import transformers

        def new_cache() -> Any:
            if self.compiled:
                return transformers.StaticCache(self.model.config, max_cache_len=longest)
            return transformers.DynamicCache(config=self.model.config)

        return TransformersSession(self.model, new_cache, self.step)

    def close(self) -> None:
        """Forget the model."""
        self.model = self.step = None


def why_absent(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why transformers cannot run, or None."""
    try:
        from transformers import MistralForCausalLM  # noqa: F401
    except ImportError as problem:
        return f"transformers cannot be imported ({problem}): pip install 'mistral-edu[bench]'"
    return None


def why_no_flash(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why transformers cannot use flash-attn, or None."""
    if device.type != "cuda":
        return f"flash-attn needs a GPU, and this run computes on {device.type}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"flash-attn computes in half precision, not in {dtype}"
    if find_spec("flash_attn") is None:
        return "flash-attn is not installed: pip install --no-build-isolation flash-attn"
    return why_absent(device, dtype)


PEERS = (
    Peer(DYNAMIC, why_absent, partial(Transformers, name=DYNAMIC), "transformers"),
    Peer(
        COMPILED,
        why_absent,
        partial(Transformers, name=COMPILED),
        "transformers",
        on_request=True,
    ),
    Peer(FLASH, why_no_flash, partial(Transformers, name=FLASH), "flash-attn"),
)
