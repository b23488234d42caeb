"""The last exercise of lesson 08: a schedule of chunks that exposes four broken caches.

Each of the four is the library's `RollingCache` with one mistake that a released cache has made.
`feed` runs one chunk through a cache and says what its queries really saw; the lesson's other
exercises use it too.
"""

from dataclasses import replace

import torch

from mistral_edu.config import MistralConfig
from mistral_edu.course.checking import Claim, by_claims
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.sliding_window import visible


def empty_cache(window, rows=1, kind=RollingCache):
    """A one-layer cache whose keys are two numbers wide: enough to carry a position."""
    config = MistralConfig(
        hidden_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        sliding_window=window,
    )
    return kind.allocate(config, rows)


@torch.no_grad()
def feed(cache, chunk):
    """Run one chunk; list, for each of its queries, the positions it really saw.

    Every key carries the number of its own position, so a wrong mask shows.

    >>> cache = empty_cache(window=3)
    >>> feed(cache, [0, 1, 2, 3]), feed(cache, [4])
    ([[0], [0, 1], [0, 1, 2], [1, 2, 3]], [[2, 3, 4]])
    """
    positions = torch.tensor([chunk])
    step = cache.begin(positions)
    stamped = positions[:, None, :, None].expand(-1, -1, -1, 2).float()  # → (1, 1, T, 2)
    keys, _ = cache.update(0, stamped, stamped, step)
    cache.commit(step)
    stamps = keys[0, 0, :, 0].long()
    mask = visible(positions, step.key_positions, cache.window)[0]
    return [sorted(stamps[row].tolist()) for row in mask]


class EvictsFirst(RollingCache):
    """Writes the chunk into the ring, then lets it attend to the ring alone."""

    def begin(self, positions):
        step = super().begin(positions)
        arriving = positions[step.rows, step.columns]
        after = self.positions.index_put((step.rows, step.slots), arriving)
        return replace(step, key_positions=after)

    def update(self, layer, k, v, step):
        super().update(layer, k, v, step)
        return self.keys[layer], self.values[layer]


class MasksBySlot(RollingCache):
    """Takes the number of a slot for the position of its token."""

    def begin(self, positions):
        step = super().begin(positions)
        believed = step.key_positions.clone()
        believed[:, : step.used_slots] = torch.arange(step.used_slots)
        return replace(step, key_positions=believed)


class StoresPadding(RollingCache):
    """Stores padding like any token: at −1 mod W, the last slot."""

    def begin(self, positions):
        step = super().begin(positions)
        rows, columns = (positions < 0).nonzero(as_tuple=True)
        return replace(
            step,
            rows=torch.cat([rows, step.rows]),
            columns=torch.cat([columns, step.columns]),
            slots=torch.cat([positions[rows, columns] % self.slot_count, step.slots]),
        )


class KeepsTheHead(RollingCache):
    """Stores the first W tokens of a chunk instead of the last W."""

    def begin(self, positions):
        step = super().begin(positions)
        real = (positions >= 0).nonzero()[: self.slot_count]
        rows, columns = real.unbind(dim=1)
        slots = positions[rows, columns] % self.slot_count
        return replace(step, rows=rows, columns=columns, slots=slots)


def exposes(probe, kind):
    """Whether the schedule `probe` makes a broken cache see something else than the right one."""
    for window in (3, 4, 7):
        schedule = probe(window)
        right, broken = (empty_cache(window, kind=which) for which in (RollingCache, kind))
        if all(feed(right, chunk) == feed(broken, chunk) for chunk in schedule):
            return False
    return True


def is_a_text(probe):
    """Whether every schedule is chunks of whole numbers that count up from 0, −1 for padding."""
    for window in (3, 4, 7):
        chunks = probe(window)
        real = [position for chunk in chunks for position in chunk if position != -1]
        if not all(chunks) or real != list(range(len(real))):
            return False
    return True


def probe(window):
    longer_than_the_ring = list(range(window + 2))
    two_at_once = [window + 2, window + 3]
    only_padding = [-1]
    return [longer_than_the_ring, two_at_once, only_padding, [window + 4]]


PROBE = Exercise(
    id="08.probe",
    title="Break four caches",
    difficulty=3,
    minutes=15,
    open_ended=True,
    task="Four caches each have one mistake. Design the test that exposes all four: write "
    "`probe(window)`, a short list of chunks to feed, each a list of positions. Real tokens count "
    "up from 0 across the chunks; −1 is padding. The check feeds your chunks to the library's "
    "cache and to the broken ones, and compares what every query saw. Many answers are right; use "
    "at most 4 · `window` columns in all.",
    stub='''def probe(window):
    """Chunks of positions that no broken cache survives."""
    ...''',
    check=by_claims(
        (
            Claim("the real positions count up from 0, and no chunk is empty", is_a_text),
            Claim(
                "there are at most 4 · window columns",
                lambda probe: all(sum(map(len, probe(w))) <= 4 * w for w in (3, 4, 7)),
            ),
            Claim(
                "it exposes the cache that takes a slot's number for a position",
                lambda probe: exposes(probe, MasksBySlot),
            ),
            Claim(
                "it exposes the cache that evicts before its chunk has attended",
                lambda probe: exposes(probe, EvictsFirst),
            ),
            Claim(
                "it exposes the cache that keeps the first W tokens of a long chunk",
                lambda probe: exposes(probe, KeepsTheHead),
            ),
            Claim(
                "it exposes the cache that stores padding",
                lambda probe: exposes(probe, StoresPadding),
            ),
        ),
        ask=(
            "Which of the four would a test that feeds one token at a time have caught?",
            "Which would a test on a text shorter than the window have caught?",
        ),
    ),
    hints=(
        "Each mistake needs its own ingredient: a wrapped ring, a chunk of several tokens, a chunk "
        "longer than the ring, padding. And someone must look afterwards.",
        "Padding that comes first wipes an empty slot, which nobody misses. When would it hurt?",
        "Feed window + 2 tokens at once, then two, then [-1] alone, then one more token.",
    ),
    solution=probe,
    mutants=(
        Mutant(
            lambda window: [[position] for position in range(3 * window)],
            "one token at a time: nothing arrives together, so nothing is evicted too early",
            says="one token at a time",
        ),
        Mutant(
            lambda window: [list(range(window - 1)), [window - 1]],
            "the text fits the window, so the ring never wraps and nothing is ever evicted",
            says="never wraps",
        ),
        Mutant(
            lambda window: [[-1, *range(window + 2)], [window + 2, window + 3], [window + 4]],
            "padding where it does no harm: the slot it wipes is empty, refilled, or not looked at",
            says="does no harm",
        ),
    ),
)
