"""The engine's ring: keys and values at fixed addresses, and one number for each row.

    slot s holds position  n − 1 − ((n − 1 − s) mod S),   or nothing if that is below 0

n is how many tokens the row has seen. The formula says what `RollingCache` writes down: tokens
come in order and leave in order, so the count alone tells what every slot holds. It lives on the
device, where a replayed graph can read it and add to it; nothing is ever allocated again.

Source: "Mistral 7B" (arXiv 2310.06825), section 2, rolling buffer cache.
Lesson: 14_the_full_7b.

Conventions
    As in `rolling_cache`: keys are stored rotated, a chunk attends before anything is evicted,
    padding is never written. One token takes its slot before it attends: what it evicts, at
    n − S, it does not see. A full ring therefore needs no mask and no window.
    Rows may be ragged: each has its own count.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu.config import MistralConfig


def ring_positions(seen: Int[Tensor, "B"], slots: int) -> Int[Tensor, "B slots"]:
    """What each slot of a ring holds once `seen` tokens have gone in; −1 for nothing.

    >>> ring_positions(torch.tensor([2, 3, 7]), slots=3)
    tensor([[ 0,  1, -1],
            [ 0,  1,  2],
            [ 6,  4,  5]])
    """
    newest = seen[:, None] - 1
    age = (newest - torch.arange(slots, device=seen.device)) % slots
    return (newest - age).clamp(min=-1)


@dataclass(frozen=True)
class Landing:
    """Where a chunk of tokens goes: token `columns[n]` of row `rows[n]` into slot `slots[n]`."""

    rows: Int[Tensor, "N"]
    columns: Int[Tensor, "N"]
    slots: Int[Tensor, "N"]


class StaticRing:
    """Keys and values of every layer for the last S tokens of each row, and the rows' counts.

    Args:
        config: gives layers, key/value heads, D and W.
        batch_size: B.
        capacity: tokens that will ever be stored, if known; needed if there is no window.
        dtype, device: of keys and values.

    Raises:
        ValueError: with neither a window nor a capacity, for memory is reserved once.

    >>> config = MistralConfig(hidden_size=8, num_attention_heads=2, num_key_value_heads=1,
    ...                        num_hidden_layers=1, sliding_window=3)
    >>> ring = StaticRing(config, batch_size=2)
    >>> ring.slots, ring.nbytes  # 2 tensors · 2 rows · 3 slots · 4 numbers of 4 bytes
    (3, 192)
    """

    def __init__(
        self,
        config: MistralConfig,
        batch_size: int,
        *,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        limits = [n for n in (config.sliding_window, capacity) if n is not None]
        if not limits or min(limits) < 1:
            raise ValueError(
                f"capacity={capacity} with sliding_window={config.sliding_window}: the engine "
                "reserves its cache once, so give capacity= the tokens of prompt and answer"
            )
        self.slots, self.window = min(limits), config.sliding_window
        shape = (batch_size, self.slots, config.num_key_value_heads, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [_zeros(shape, dtype, device) for _ in layers]
        self.values = [_zeros(shape, dtype, device) for _ in layers]
        self.seen: Int[Tensor, "B"] = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.rows = torch.arange(batch_size, device=device)
        self.counts = [0] * batch_size  # the same numbers, known without asking the device

    @property
    def nbytes(self) -> int:
        """Bytes held by keys and values; constant."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    @property
    def filled(self) -> tuple[int, int]:
        """Slots in use by the emptiest row, and by the fullest."""
        return min(self.slots, min(self.counts)), min(self.slots, max(self.counts))

    def reset(self) -> None:
        """Begin new texts. What the slots hold is left there: nobody sees it any more."""
        self.seen.zero_()
        self.counts = [0] * len(self.counts)

    def count(self, tokens: list[int]) -> None:
        """Note in `counts` so many more tokens of each row."""
        self.counts = [old + new for old, new in zip(self.counts, tokens, strict=True)]

    def require_room(self, end: int) -> None:
        """Refuse texts of so many tokens without slots: a ring shorter than W cannot wrap."""
        if end > self.slots and self.slots != self.window:
            raise ValueError(
                f"{end} tokens do not fit the engine's capacity of {self.slots} with "
                f"sliding_window={self.window}: make it with capacity={end} or more"
            )

    def landing(self, positions: Int[Tensor, "B T"]) -> Landing:
        """Where the tokens of a chunk go: the last S of each row, padding apart."""
        newest = positions.amax(dim=1, keepdim=True)
        kept = (positions >= 0) & (positions > newest - self.slots)
        rows, columns = kept.nonzero(as_tuple=True)
        return Landing(rows, columns, positions[rows, columns] % self.slots)

    def with_chunk(
        self,
        layer: int,
        k: Float[Tensor, "B Hkv T D"],
        v: Float[Tensor, "B Hkv T D"],
        used: int,
    ) -> tuple[Float[Tensor, "B Hkv S D"], Float[Tensor, "B Hkv S D"]]:
        """What a chunk attends to in a layer: the first `used` slots, then its own."""
        if not used:
            return k, v
        old_k, old_v = self.keys[layer][:, :, :used], self.values[layer][:, :, :used]
        return torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2)

    def store(
        self,
        layer: int,
        k: Float[Tensor, "B Hkv T D"],
        v: Float[Tensor, "B Hkv T D"],
        landing: Landing,
    ) -> None:
        """Write one layer's chunk to its slots."""
        for ring, new in ((self.keys[layer], k), (self.values[layer], v)):
            ring[landing.rows, :, landing.slots] = new[landing.rows, :, landing.columns]


def _zeros(
    shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device | str
) -> Float[Tensor, "B Hkv slots D"]:
    """An empty ring as (B, Hkv, S, D); on a GPU it lies in memory as (B, S, Hkv, D).

    That is how FlashAttention's kernels read without copying. A CPU prefers each head in one piece.
    """
    batch, slots, shared, head_dim = shape
    if torch.device(device).type == "cpu":
        return torch.zeros(batch, shared, slots, head_dim, dtype=dtype, device=device)
    return torch.zeros(shape, dtype=dtype, device=device).transpose(1, 2)
