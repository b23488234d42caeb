"""Who holds which shard, the data: a model cut among ranks, and one token on its way through it.

    embedding → sum → (attention → sum → feed-forward → sum) × L → head → gather

Source: Shoeybi et al., "Megatron-LM" (arXiv 1909.08053), section 3.
Lesson: 16_beyond_one_machine. The numbers come from `sharding.py`; `shards_figure.py` draws.

Conventions
    Weights, cache and messages are counted at two bytes a number, for one token of one text.
    Messages go round a ring: every rank sends to the next, the last one to the first.
    A number of ranks that the library refuses makes a frame too: the refusal is its finding.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from mistral_edu.config import MistralConfig
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.viz.frame import Frame, aligned, count, readable
from mistral_edu.viz.sharding import (
    EMBEDDING,
    HEAD,
    Cut,
    cuts,
    gather_bytes,
    rank_share,
    sum_bytes,
    token_bytes,
)

# Each stop of a token, and the matrices that work there.
WAY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("embedding", (EMBEDDING,)),
    ("sum", ()),
    ("attention", ("q", "k", "v", "o")),
    ("sum", ()),
    ("feed-forward", ("gate", "up", "down")),
    ("sum", ()),
    ("head", (HEAD,)),
    ("gather", ()),
)


@dataclass(frozen=True)
class ShardsFrame(Frame):
    """A model cut among ranks, with a token at one stop of its way.

    Args:
        model: its name in the title.
        config: its config.
        ranks: n.
        stop: index into `WAY`.
        pieces: the matrices, cut; whole where the number of ranks is refused.
        refusal: the library's own words, or "".
        cache_bytes: of one rank, for a full ring.
    """

    topic: ClassVar[str] = "shards"
    model: str
    config: MistralConfig
    ranks: int
    stop: int
    pieces: tuple[Cut, ...]
    refusal: str
    cache_bytes: int

    @property
    def matrices(self) -> tuple[Cut, ...]:
        """The pieces that are matrices; a tied head is drawn where it works, though it costs 0."""
        found = [piece for piece in self.pieces if len(piece.shape) == 2]
        if self.config.tie_word_embeddings:
            table = found[0]
            found.append(Cut(HEAD, table.shape, table.axis, table.parts, 0))
        return tuple(found)

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the matrices that work at this stop."""
        return WAY[self.stop][1]

    @property
    def weight_bytes(self) -> tuple[int, ...]:
        """What each rank holds; nothing where the ranks are refused."""
        if self.refusal:
            return ()
        held = (sum(piece.held(rank) for piece in self.pieces) for rank in range(self.ranks))
        return tuple(2 * numbers for numbers in held)

    def heads(self, rank: int) -> tuple[range, range]:
        """Query heads and key/value heads of a rank."""
        shared = self.config.num_key_value_heads // self.ranks
        group = self.config.num_attention_heads // self.config.num_key_value_heads
        kept = range(rank * shared, (rank + 1) * shared)
        return range(kept.start * group, kept.stop * group), kept

    @property
    def talks(self) -> bool:
        """Whether the ranks send anything at this stop."""
        return self.ranks > 1 and not self.refusal and not self.active

    @property
    def happens(self) -> str:
        """What each rank does at this stop."""
        width, vocabulary = self.config.hidden_size, self.config.vocab_size
        rounds = self.ranks - 1
        added = self._sends(2 * rounds, sum_bytes(self.ranks, width), "the sum")
        gathered = self._sends(rounds, gather_bytes(self.ranks, vocabulary), "the logits")
        return (
            "the rank whose rows hold the token answers, the others give zeros",
            added,
            "every rank computes its own heads, and its term of the sum",
            added,
            "every rank computes its own channels, and its term of the sum",
            added,
            "every rank scores its own part of the vocabulary",
            gathered,
        )[self.stop]

    def _sends(self, messages: int, size: int, result: str) -> str:
        said = count(messages, "message")
        return f"every rank sends its neighbour {said}, {size:,} bytes; then all have {result}"

    @property
    def sentence(self) -> str:
        """The stop and what happens there, or the refusal."""
        if self.refusal:
            return f"refused: {self.refusal}"
        words = self.happens if self.ranks > 1 else "one rank does it all, and sends nothing"
        return f"stop {self.stop + 1}, {WAY[self.stop][0]}: {words}"

    @property
    def title(self) -> str:
        if self.refusal:
            return f"{self.model} on {self.ranks} ranks is refused, before anything is loaded"
        if self.ranks == 1:
            held = readable(self.weight_bytes[0])
            return f"{self.model} on 1 rank: {held} of weights in one place, nothing to send"
        numbers = sum(piece.times * math.prod(piece.shape) for piece in self.pieces)
        held, whole = (readable(size) for size in (max(self.weight_bytes), 2 * numbers))
        sent = readable(token_bytes(self.config, self.ranks))
        return (
            f"{self.model} on {self.ranks} ranks: each holds {held} of {whole} and "
            f"{count(len(self.heads(0)[1]), 'key/value head')}, and sends {sent} for every token"
        )

    @property
    def summary(self) -> str:
        if self.refusal:
            why = self.sentence.replace("=", " = ")
            return f"The uncut matrices of {self.model}; {self.ranks} ranks are {why}."
        cut = ", ".join(f"{piece.name} {piece.how}" for piece in self.matrices)
        return (
            f"The matrices of {self.model}, to scale, cut among {count(self.ranks, 'rank')}: "
            f"{cut}. Rank 0 holds {self.holding(0)}. The token is at {self.sentence}."
        )

    def holding(self, rank: int) -> str:
        """What a rank has, in words."""
        queries, shared = self.heads(rank)
        weights, ring = readable(self.weight_bytes[rank]), readable(self.cache_bytes)
        return (
            f"query heads {span(queries)}, key/value heads {span(shared)}, "
            f"{weights} of weights and {ring} of cache"
        )

    def to_text(self) -> str:
        rows = [["matrix", "out", "in", "cut", "each rank has", "how many"]]
        for piece in self.matrices:
            each = " ".join(f"{part:,}" for part in sorted(set(piece.parts))) or "all"
            sides = [f"{side:,}" for side in piece.shape]
            rows.append([piece.name, *sides, piece.how, each, str(piece.times)])
        ranks = [] if self.refusal else range(self.ranks)
        held = [f"rank {rank}: {self.holding(rank)}" for rank in ranks]
        return "\n".join([self.title, *aligned(rows), *held, self.sentence])


def span(numbers: range) -> str:
    """The first and the last of a run of numbers.

    >>> span(range(4, 8)), span(range(2, 3))
    ('4–7', '2')
    """
    return f"{numbers[0]}–{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"


def shards_frame(
    config: MistralConfig, model: str = "this model", ranks: int = 2, stop: int = 0
) -> ShardsFrame:
    """Cut a model among ranks and put a token at one stop of its way.

    Args:
        config: the model.
        model: its name, for the title.
        ranks: n, at least 1; a number that the library refuses gives a frame that says so.
        stop: 0 .. 7, an index into `WAY`.

    Raises:
        ValueError: for a stop that is not on the way, or fewer ranks than one.

    >>> frame = shards_frame(MistralConfig.mistral_7b_v0_1(), "Mistral-7B", ranks=4)
    >>> frame.heads(3), frame.weight_bytes[3]
    ((range(24, 32), range(6, 8)), 3621265408)
    >>> shards_frame(MistralConfig.mistral_7b_v0_1(), ranks=16).refusal[:22]
    'num_key_value_heads=8 '
    """
    if ranks < 1 or not 0 <= stop < len(WAY):
        raise ValueError(f"ranks={ranks} and stop={stop}: at least 1, and in 0 .. {len(WAY) - 1}")
    try:
        share, refusal = rank_share(config, ranks), ""
    except ValueError as error:
        share, refusal = config, str(error)
    ring = RollingCache.allocate(share, batch_size=1, dtype=torch.bfloat16, device="meta")
    pieces = cuts(config, 1 if refusal else ranks)
    return ShardsFrame(model, config, ranks, stop, pieces, refusal, ring.nbytes)
