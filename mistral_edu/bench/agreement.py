"""The same logits first: who computes something else is not measured.

    a prompt past the window, then four tokens more, two rows:   ‖found − expected‖ / ‖expected‖

Lesson: 14_the_full_7b.

Conventions
    The reference is the plain model of this project, in the same type. A peer that knows no window
    is compared inside it.
    A window off by one token changes the logits of small229 by 0.04 of their norm: float32's
    tolerance sees that, those of the half types do not. So measure in float32 too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mistral_edu.bench.peers import Opened, Peer
from mistral_edu.bench.sizes import random_ids, window_of
from mistral_edu.config import MistralConfig

ROWS, PAST, STEPS = 2, 3, 4
TOLERANCES = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Agreement:
    """How far a peer's logits are from the reference's.

    Args:
        peer: its name.
        tokens: of the longest text compared.
        difference: the norm of the difference over the norm of the reference.
        largest: the largest single difference over the largest single logit.
        tolerance: what `difference` may be.
    """

    peer: str
    tokens: int
    difference: float
    largest: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether they are the same function. NaN is not."""
        return self.difference <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self) | {"agrees": self.holds}

    def reason(self) -> str:
        """Why a peer that does not agree is left out."""
        return (
            f"its logits differ from the reference by {self.difference:.2g} of their norm, "
            f"more than {self.tolerance:g}: it would not be the same work"
        )


def logits_of(
    opened: Opened, config: MistralConfig, length: int, device: torch.device
) -> Float[Tensor, "N B V"]:
    """What a peer scores after a prompt of `length` tokens, and after each of a few more."""
    ids = random_ids(config, ROWS, length + STEPS).to(device)
    session = opened.session(ROWS, length + STEPS)
    session.start(ids[:, :length])
    found = [session.logits()]
    for column in ids[:, length:].T:
        session.step(column)
        found.append(session.logits())
    session.close()
    return torch.stack(found)


def length_for(peer: Peer, config: MistralConfig) -> int:
    """Tokens of the prompt to compare over: past the window, or inside it.

    >>> from mistral_edu.bench.roster import peer_named
    >>> config = MistralConfig(sliding_window=64)
    >>> length_for(peer_named("plain"), config), length_for(peer_named("llama.cpp"), config)
    (67, 32)
    """
    window = window_of(config)
    return window + PAST if peer.windowed else max(1, min(window // 2, window - STEPS))


def compare(
    peers: Mapping[str, tuple[Peer, Opened]],
    reference: Opened,
    config: MistralConfig,
    device: torch.device,
    dtype: torch.dtype,
) -> list[Agreement]:
    """Hold every peer's logits against the reference's.

    Args:
        peers: with their weights, by name.
        reference: who is right.
        config: of the model.
        device, dtype: of the run.
    """
    expected: dict[int, Tensor] = {}
    found = []
    for name, (peer, opened) in peers.items():
        length = length_for(peer, config)
        if length not in expected:
            expected[length] = logits_of(reference, config, length, device)
        theirs = logits_of(opened, config, length, device)
        found.append(agreement(name, length + STEPS, theirs, expected[length], dtype))
    return found


def agreement(
    name: str, tokens: int, found: Tensor, expected: Tensor, dtype: torch.dtype
) -> Agreement:
    """Hold some logits against those expected.

    >>> one = torch.ones(2, 1, 4)
    >>> agreement("a", 3, one * 1.5, one, torch.float32).difference
    0.5
    """
    gap = found.double() - expected.double()
    norm, most = expected.double().norm(), expected.double().abs().max()
    return Agreement(
        name,
        tokens,
        float(gap.norm() / norm),
        float(gap.abs().max() / most),
        TOLERANCES[dtype],
    )
