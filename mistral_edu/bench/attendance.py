"""Who takes part in the end: loaded, and with the same logits as the reference.

Lesson: 14_the_full_7b.

Conventions
    Whatever goes wrong in another project ends its part in the run, not the run; the reason is in
    the record.
"""

from collections.abc import Callable
from typing import Any

import torch

from mistral_edu.bench import agreement, roster
from mistral_edu.bench.ceilings import name_of
from mistral_edu.bench.peers import Chosen, Material, Opened, Peer


def open_all(chosen: Chosen, material: Material, say: Callable[[str], None]) -> dict[str, Opened]:
    """Load every peer that takes part; one that cannot be loaded becomes absent."""
    opened: dict[str, Opened] = {}
    for peer in list(chosen.present):
        say(f"loading {peer.name}")
        try:
            peer.prepare(material)
            opened[peer.name] = peer.open(material)
        except Exception as problem:
            _exclude(chosen, peer, f"it could not be loaded: {type(problem).__name__}: {problem}")
    return opened


def check(
    chosen: Chosen, opened: dict[str, Opened], material: Material, say: Callable[[str], None]
) -> list[agreement.Agreement]:
    """Compare all logits; a peer that computes something else becomes absent."""
    say("comparing logits")
    named = {peer.name: (peer, opened[peer.name]) for peer in chosen.present}
    reference = opened.get(roster.REFERENCE) or roster.peer_named(roster.REFERENCE).open(material)
    found = agreement.compare(named, reference, material.config, material.device, material.dtype)
    for one in found:
        if not one.holds:
            _exclude(chosen, named[one.peer][0], one.reason())
            opened.pop(one.peer).close()
    return found


def _exclude(chosen: Chosen, peer: Peer, reason: str) -> None:
    chosen.present.remove(peer)
    chosen.absent[peer.name] = reason


def roll(chosen: Chosen, dtype: torch.dtype) -> list[dict[str, Any]]:
    """For every known peer, whether it was measured, and if not, why."""
    here = {peer.name for peer in chosen.present}
    return [
        {
            "dtype": name_of(dtype),
            "peer": peer.name,
            "version": peer.version,
            "measured": peer.name in here,
            "reason": chosen.absent.get(peer.name),
        }
        for peer in roster.PEERS
    ]
