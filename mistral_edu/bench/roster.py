"""Everyone who can be measured, in the order of the tables.

Lesson: 14_the_full_7b.
"""

from mistral_edu.bench import (
    llama_cpp_native_peer,
    llama_cpp_peer,
    mistral_inference_peer,
    ours,
    transformers_peer,
)
from mistral_edu.bench.peers import Peer

PEERS: tuple[Peer, ...] = (
    *ours.PEERS,
    *transformers_peer.PEERS,
    *mistral_inference_peer.PEERS,
    *llama_cpp_peer.PEERS,
    *llama_cpp_native_peer.PEERS,
)
REFERENCE = ours.PLAIN  # whose logits the others are held against
BASELINE = transformers_peer.DYNAMIC  # whose speed is 1 in the ratios


def peer_named(name: str) -> Peer:
    """The peer of a name.

    >>> peer_named("plain").windowed
    True
    """
    return next(peer for peer in PEERS if peer.name == name)
