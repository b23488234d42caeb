"""Who is measured: one interface for every way to run the model, and who cannot run here.

    peer.open(material) → opened, with its weights       opened.session(…) → one batch, its cache
    session.start(prompts), .step(ids), .logits()

Lesson: 14_the_full_7b.

Conventions
    A peer that cannot run says why, in words for the record. It is never dropped silently.
    `start` begins a new text. Prompts longer than PROMPT_CHUNK tokens are taken in by pieces, for a
    mask over all of a very long prompt is larger than the model.
    A peer that knows no window attends to everything: what it does past W tokens is more work, so
    its figures there say so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu.config import MistralConfig

PROMPT_CHUNK = 4096


@runtime_checkable
class Session(Protocol):
    """One batch in progress."""

    def start(self, ids: Int[Tensor, "B T"]) -> None:
        """Begin new texts."""
        ...

    def step(self, ids: Int[Tensor, "B"]) -> None:
        """Continue each text by one token."""
        ...

    def logits(self) -> Float[Tensor, "B V"]:
        """The scores after the last call, in float32 on the CPU."""
        ...

    def cache_bytes(self) -> int:
        """Bytes of keys and values that are held now."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


@runtime_checkable
class Opened(Protocol):
    """A peer with its weights in memory."""

    def session(self, batch: int, longest: int) -> Session:
        """A batch of so many rows, none longer than `longest` tokens."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


@dataclass(frozen=True)
class Material:
    """What all peers are made from.

    Args:
        folder: config.json and the weights in Hugging Face's layout.
        dtype: of the weights in the folder.
        device: where to compute.
        threads: processor threads for a peer that does not ask PyTorch.
        scratch: a folder for files in other forms.
        models: what is loaded already, by kind; peers of one kind share it.
    """

    folder: Path
    dtype: torch.dtype
    device: torch.device
    threads: int
    scratch: Path
    models: dict[str, Any] = field(default_factory=dict)

    def once(self, kind: str, load: Callable[[], Any]) -> Any:
        """The model of a kind, loaded when first asked for."""
        if kind not in self.models:
            self.models[kind] = load()
        return self.models[kind]

    @cached_property
    def config(self) -> MistralConfig:
        """The config in the folder."""
        return MistralConfig.from_pretrained(self.folder)

    @property
    def gguf(self) -> Path:
        """The same weights as a GGUF file, written when first asked for."""
        from mistral_edu.weights.gguf import export

        path = self.scratch / f"{self.folder.name}.gguf"
        return path if path.is_file() else export(self.folder, path, progress=False)


@dataclass(frozen=True)
class Peer:
    """One way to run the model.

    Args:
        name: on the command line and in the record.
        why_absent: given device and type, why it cannot run here, or None.
        open: loads it.
        package: whose version goes into the record; None for this project's own.
        windowed: whether it heeds the sliding window.
        on_request: measured only when it is asked for by name.
        prepare: writes what it loads, if that is not the folder itself.
    """

    name: str
    why_absent: Callable[[torch.device, torch.dtype], str | None]
    open: Callable[[Material], Opened]
    package: str | None = None
    windowed: bool = True
    on_request: bool = False
    prepare: Callable[[Material], Any] = lambda material: None

    @property
    def version(self) -> str | None:
        """The version of its package, if that is installed."""
        try:
            return metadata.version(self.package or "mistral-edu")
        except metadata.PackageNotFoundError:
            return None


@dataclass(frozen=True)
class Chosen:
    """Peers that take part, and for every other one the reason why it does not."""

    present: list[Peer]
    absent: dict[str, str] = field(default_factory=dict)


def choose(
    peers: tuple[Peer, ...],
    wanted: tuple[str, ...] | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Chosen:
    """Sort peers into those that take part and those that do not, with reasons.

    Args:
        peers: all there are.
        wanted: names; None takes all that are not on request, ("all",) takes all.
        device, dtype: what they would compute on and in.

    Raises:
        ValueError: for a name that is no peer's.

    >>> slow = Peer("slow", lambda device, dtype: None, lambda material: None, on_request=True)
    >>> choose((slow,), None, torch.device("cpu"), torch.float32).absent
    {'slow': 'not asked for: it is measured only with --peers slow'}
    """
    names = [peer.name for peer in peers]
    unknown = [name for name in wanted or () if name not in (*names, "all")]
    if unknown:
        raise ValueError(f"unknown peers {unknown}: choose from {', '.join(names)}, or all")
    chosen = Chosen([])
    for peer in peers:
        reason = _left_out(peer, wanted) or peer.why_absent(device, dtype)
        if reason:
            chosen.absent[peer.name] = reason
        else:
            chosen.present.append(peer)
    return chosen


def _left_out(peer: Peer, wanted: tuple[str, ...] | None) -> str | None:
    if wanted is None and peer.on_request:
        return f"not asked for: it is measured only with --peers {peer.name}"
    if wanted is None or peer.name in wanted or "all" in wanted:
        return None
    return "not asked for"
