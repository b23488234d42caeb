"""The rolling cache: keys and values in a ring, so memory never grows.

    slot(p) = p mod W

A token at position p takes the slot of the token at p − W, which no later query can see.

Source: "Mistral 7B" (arXiv 2310.06825), section 2: rolling buffer cache, pre-fill and chunking.
Lesson: 08_rolling_cache.

Conventions
    Keys are stored rotated, so the order of slots never matters: `positions` says what each holds.
    A chunk attends to (cache ∪ chunk) BEFORE anything is evicted; its earliest queries still see
    keys that its last tokens will overwrite. Only its last W tokens are then written.
    Padding (position −1) is never written. `lengths` counts every token ever seen.
    A chunk that fails on its way is rolled back: the cache is then what it was before.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from mistral_edu.cache_step import Slot, Step, require_distinct, require_fit, slots_to_add
from mistral_edu.config import MistralConfig
from mistral_edu.legacy_cache import store_pairs


class RollingCache:
    """Keys and values of every layer, for the last W tokens of each row.

    Args:
        keys, values: one tensor per layer, (B, Hkv, slots, D).
        window: W, or None if nothing may be evicted.
        grows: whether to add slots when they are full, instead of refusing.

    >>> config = MistralConfig(hidden_size=8, num_attention_heads=2, num_key_value_heads=1,
    ...                        num_hidden_layers=1, sliding_window=3)
    >>> cache = RollingCache.allocate(config, batch_size=1)
    >>> for chunk in ([0, 1, 2, 3, 4], [5, 6]):
    ...     step = cache.begin(torch.tensor([chunk]))
    ...     new = torch.zeros(1, 1, len(chunk), 4)
    ...     _ = cache.update(0, new, new, step)
    ...     cache.commit(step)
    ...     print(step.key_positions.tolist(), "→", cache.positions.tolist())
    [[0, 1, 2, 3, 4]] → [[3, 4, 2]]
    [[3, 4, 2, 5, 6]] → [[6, 4, 5]]
    """

    def __init__(
        self, keys: list[Tensor], values: list[Tensor], window: int | None, grows: bool = False
    ) -> None:
        self.keys, self.values, self.window, self.grows = keys, values, window, grows
        batch, _, slots, _ = keys[0].shape
        self.positions: Int[Tensor, "B slots"] = keys[0].new_full((batch, slots), -1).long()
        self.lengths: Int[Tensor, "B"] = keys[0].new_zeros(batch).long()

    @classmethod
    def allocate(
        cls,
        config: MistralConfig,
        batch_size: int,
        *,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> "RollingCache":
        """Reserve the memory once: min(W, capacity) slots for each layer and row.

        Args:
            config: gives layers, heads, D and W.
            batch_size: B.
            capacity: tokens that will ever be stored, if known. Without a window it is the limit;
                without either the cache starts with 64 slots and doubles when they are full.
            dtype, device: of keys and values.

        >>> seven_b = MistralConfig.mistral_7b_v0_1()
        >>> cache = RollingCache.allocate(seven_b, 1, dtype=torch.bfloat16, device="meta")
        >>> cache.nbytes / 2**20
        512.0
        """
        limits = [n for n in (config.sliding_window, capacity) if n is not None]
        slots = max(1, min(limits, default=64))
        shape = (batch_size, config.num_key_value_heads, slots, config.head_dim)
        layers = range(config.num_hidden_layers)
        # Zeros, not empty: garbage in an unused slot could be NaN, and 0 · NaN is NaN.
        keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        values = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        return cls(keys, values, config.sliding_window, grows=not limits)

    @property
    def slot_count(self) -> int:
        """Slots per row: W, or fewer if the capacity was smaller."""
        return self.positions.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes held by keys and values; constant with a window or a capacity."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    @property
    def filled(self) -> int:
        """Slots in use by the fullest row; slots fill from 0 upward until the ring wraps."""
        return min(int(self.lengths.max()), self.slot_count)

    def begin(self, positions: Int[Tensor, "B T"]) -> Step:
        """Plan one chunk at `positions`: what it will attend to, where it will be stored.

        Raises:
            ValueError: if the batch differs, a position comes late or twice, or the cache is full.
        """
        require_fit(positions, self.lengths)
        require_distinct(positions, "a cache holds one token for each; pass use_cache=False")
        last = positions.amax(dim=1, keepdim=True)
        end = max(int(last.max()) + 1, int(self.lengths.max()))
        self._make_room(end)
        kept: Bool[Tensor, "B T"] = (positions >= 0) & (positions > last - self.slot_count)
        rows, columns = kept.nonzero(as_tuple=True)
        slots = positions[rows, columns] % self.slot_count
        # One token may overwrite before it attends: what it evicts, at p − W, it does not see.
        in_place = positions.shape[1] == 1 and self.filled > 0 and not torch.is_grad_enabled()
        if in_place:
            used = min(end, self.slot_count)
            after = self.positions.index_put((rows, slots), positions[rows, columns])
            key_positions = after[:, :used]
        else:
            used = self.filled
            key_positions = torch.cat([self.positions[:, :used], positions], dim=1)
        evicts = self.filled > 0 and end > self.slot_count
        return Step(positions, key_positions, rows, columns, slots, used, in_place, evicts)

    def peek(self, positions: Int[Tensor, "B T"]) -> Step:
        """Plan a chunk that attends to the cache as in `begin`, and leaves no trace in it."""
        require_fit(positions, self.lengths)
        key_positions = torch.cat([self.positions[:, : self.filled], positions], dim=1)
        none = positions.new_zeros(0)
        return Step(positions, key_positions, none, none, none, self.filled, in_place=False)

    def _make_room(self, end: int) -> None:
        if more := slots_to_add(end, self.slot_count, self.window, self.grows):
            self.keys, self.values = (
                [functional.pad(ring, (0, 0, 0, more)) for ring in rings]
                for rings in (self.keys, self.values)
            )
            self.positions = functional.pad(self.positions, (0, more), value=-1)

    def update(
        self,
        layer: int,
        k: Float[Tensor, "B Hkv T D"],
        v: Float[Tensor, "B Hkv T D"],
        step: Step,
    ) -> tuple[Float[Tensor, "B Hkv S D"], Float[Tensor, "B Hkv S D"]]:
        """Store one layer's chunk; return the keys and values it attends to (`key_positions`)."""
        attended = []
        for ring, new in ((self.keys[layer], k), (self.values[layer], v)):
            before = ring[:, :, : step.used_slots]
            attended.append(before if step.in_place else torch.cat([before, new], dim=2))
            chosen = new.detach().transpose(1, 2)[step.rows, step.columns]  # → (N, Hkv, D)
            ring = ring.transpose(1, 2)  # → (B, slots, Hkv, D), the same memory
            if step.evicts:
                step.overwritten.append((ring, ring[step.rows, step.slots]))
            ring[step.rows, step.slots] = chosen
        return attended[0], attended[1]

    def commit(self, step: Step) -> None:
        """End a chunk, after its last layer: note which positions the slots now hold."""
        self.lengths = torch.maximum(self.lengths, step.positions.amax(dim=1) + 1)
        stored = step.positions[step.rows, step.columns]
        self.positions[step.rows, step.slots] = stored

    def rollback(self, step: Step) -> None:
        """Undo a chunk that failed in some layer: put back what it overwrote."""
        for ring, before in step.overwritten:
            ring[step.rows, step.slots] = before

    def __len__(self) -> int:
        """L, the number of layers: a cache is a sequence of (key, value) pairs."""
        return len(self.keys)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        """One layer's (key, value), (B, Hkv, S, D), unrolled into position order.

        Rows shorter than the longest are zero on the left, as in a left-padded batch.
        """
        held, order = (x[:, self.slot_count - self.filled :] for x in self.positions.sort(dim=1))
        order, empty = order[:, None, :, None], (held < 0)[:, None, :, None]  # → (B, 1, S, 1)
        rings = (self.keys[layer], self.values[layer])
        key, value = (ring.take_along_dim(order, dim=2).masked_fill(empty, 0) for ring in rings)
        return key, value

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[layer] for layer in range(len(self)))

    def slots(self, row: int = 0) -> list[Slot]:
        """What each slot of one row holds, for pictures and for reading."""
        newest = int(self.lengths[row]) - 1
        held = self.positions[row].tolist()
        return [Slot(i, p, None if p < 0 else newest - p) for i, p in enumerate(held)]

    def reorder(self, rows: Int[Tensor, "N"]) -> None:
        """Make row n a copy of old row `rows[n]`, in every layer (beam search)."""
        self.keys = [ring[rows] for ring in self.keys]
        self.values = [ring[rows] for ring in self.values]
        self.positions, self.lengths = self.positions[rows], self.lengths[rows]

    def crop(self, length: int) -> None:
        """Forget every token from position `length` on.

        Raises:
            ValueError: if the ring has wrapped past what the shorter text would still see.
        """
        lost = (self.lengths > self.slot_count) & (self.lengths > length)
        if length < 0 or bool(lost.any()):
            raise ValueError(
                f"cannot crop to {length} tokens: {int(self.lengths.max())} were seen and only the "
                f"last {self.slot_count} are kept; run the shorter text again"
            )
        self.positions[self.positions >= length] = -1
        self.lengths.clamp_(max=length)

    def reset(self) -> None:
        """Empty the cache, keeping its memory."""
        self.positions.fill_(-1)
        self.lengths.zero_()

    def to_legacy(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """The documentation's form: one (key, value) per layer, in position order."""
        return tuple(self)

    @classmethod
    def from_legacy(
        cls,
        past: tuple[tuple[Tensor, Tensor], ...],
        config: MistralConfig,
        lengths: Int[Tensor, "B"] | None = None,
        capacity: int | None = None,
    ) -> "RollingCache":
        """Build a cache from pairs as `to_legacy` writes them.

        `lengths` says how many tokens each row has seen, if not S (a padded or wrapped batch).
        """
        first = past[0][0]
        new = cls.allocate(
            config, len(first), capacity=capacity, dtype=first.dtype, device=first.device
        )
        store_pairs(new, past, lengths)
        return new
