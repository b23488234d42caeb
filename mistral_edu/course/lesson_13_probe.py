"""The last exercise of lesson 13: scores and values that expose four broken sweeps.

Each of the four is the loop of the lesson with one mistake. To keep answers short, every query
gives a key the same score, so a probe is one list of scores and one of values.
"""

import math

from mistral_edu.course.checking import Claim, by_claims
from mistral_edu.course.exercise import Exercise, Mutant

SIZES = ((4, 2), (6, 4), (7, 3))  # (window, tile): tiles smaller than the window


class Sweep:
    """Windowed attention over tiles of keys, one number per value.

    >>> Sweep(window=2, tile=2).attend([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    [1.0, 1.5, 2.5]
    """

    def __init__(self, window, tile):
        self.window, self.tile = window, tile

    def sees(self, i, j):
        """Whether the query at i sees the key at j."""
        return 0 <= i - j < self.window

    def opens(self, queries, keys):
        """Whether a tile of queries opens a tile of keys."""
        return any(self.sees(i, j) for i in queries for j in keys)

    def shrink(self, old, new):
        """What the sums so far are multiplied by when the maximum moves."""
        return math.exp(old - new)

    def attend(self, scores, values):
        """The output of every query."""
        length, tile = len(values), self.tile
        tiles = [range(at, min(at + tile, length)) for at in range(0, length, tile)]
        outputs = []
        for queries in tiles:
            opened = [keys for keys in tiles if self.opens(queries, keys)]
            outputs += [self.one(i, opened, scores, values) for i in queries]
        return outputs

    def one(self, i, tiles, scores, values):
        """The output of query i over the opened tiles."""
        greatest, total, mixed = -math.inf, 0.0, 0.0
        for keys in tiles:
            seen = [j for j in keys if self.sees(i, j)]
            if seen:
                new = max(greatest, *(scores[j] for j in seen))
                shrink = self.shrink(greatest, new)
                weights = [math.exp(scores[j] - new) for j in seen]
                total = total * shrink + sum(weights)
                added = sum(w * values[j] for w, j in zip(weights, seen, strict=True))
                mixed = mixed * shrink + added
                greatest = new
        return mixed / total if total else 0.0


class NeverRescales(Sweep):
    """Adds new weights to old sums that were measured from another maximum."""

    def shrink(self, old, new):
        return 1.0


class OneKeyTooMany(Sweep):
    """Passes W as the left bound, so W + 1 keys are seen."""

    def sees(self, i, j):
        return 0 <= i - j <= self.window


class SkipsTheCutTile(Sweep):
    """Skips a tile as soon as the window's old edge cuts it."""

    def opens(self, queries, keys):
        return queries[-1] - keys[0] < self.window and super().opens(queries, keys)


class MasksByPlaceInTile(Sweep):
    """Asks who is later by the places inside the tile: right on the diagonal, wrong elsewhere."""

    def sees(self, i, j):
        return super().sees(i, j) and i % self.tile >= j % self.tile


def exposes(probe, kind):
    """Whether the probe makes a broken sweep answer differently, by more than rounding."""
    for window, tile in SIZES:
        scores, values = probe(window, tile)
        right = Sweep(window, tile).attend(scores, values)
        wrong = kind(window, tile).attend(scores, values)
        if max(abs(a - b) for a, b in zip(right, wrong, strict=True)) < 1e-3:
            return False
    return True


def is_a_text(probe):
    """Whether every probe is as many finite scores as finite values, and none is empty."""
    pairs = [probe(*sizes) for sizes in SIZES]
    finite = all(math.isfinite(x) for pair in pairs for numbers in pair for x in numbers)
    return finite and all(len(scores) == len(values) > 0 for scores, values in pairs)


def probe(window, tile):
    length = 2 * window
    rising = [0.5 * place for place in range(length)]
    return rising, list(range(length))


PROBE = Exercise(
    id="13.probe",
    title="Break four sweeps",
    difficulty=3,
    minutes=15,
    open_ended=True,
    task="Four tiled sweeps each have one mistake: no rescaling; W + 1 keys; a tile cut by the "
    "window's old edge is skipped; a key whose place *inside* its tile is later than the query's "
    "in its own is hidden. Write "
    "`probe(window, tile)`: two lists, the score that each key gets from every query, and its "
    "value. The check runs the right sweep and the broken ones on them, always with `tile` less "
    "than `window`. Many answers are right; use at most 3 · `window` keys.",
    stub='''def probe(window, tile):
    """Scores and values that no broken sweep survives."""
    ...''',
    check=by_claims(
        (
            Claim("there are as many finite scores as finite values", is_a_text),
            Claim(
                "there are at most 3 · window keys",
                lambda probe: all(len(probe(w, t)[0]) <= 3 * w for w, t in SIZES),
            ),
            Claim(
                "it exposes the sweep that never rescales",
                lambda probe: exposes(probe, NeverRescales),
            ),
            Claim(
                "it exposes the sweep that sees W + 1 keys",
                lambda probe: exposes(probe, OneKeyTooMany),
            ),
            Claim(
                "it exposes the sweep that skips a tile cut by the window's old edge",
                lambda probe: exposes(probe, SkipsTheCutTile),
            ),
            Claim(
                "it exposes the sweep that judges by places inside the tile",
                lambda probe: exposes(probe, MasksByPlaceInTile),
            ),
        ),
        ask=(
            "Which of the four would a text shorter than the window have caught?",
            "Random scores and values pass too. Which kinds of chance would let a mistake through?",
        ),
    ),
    hints=(
        "If all values are equal, every weighted mean of them is that value. What else must "
        "differ, and where must the greatest score stand?",
        "Rescaling matters only when a later tile holds a greater score. But if scores rise too "
        "steeply, old keys weigh nothing, and nobody notices them missing.",
        "Take 2 · window keys, scores that rise by 0.5 from key to key, and values 0, 1, 2, …",
    ),
    solution=probe,
    mutants=(
        Mutant(
            lambda window, tile: ([-0.5 * j for j in range(2 * window)], list(range(2 * window))),
            "no score is greater than those before it, so the running maximum never moves and "
            "nothing needs rescaling",
            says="never moves",
        ),
        Mutant(
            lambda window, tile: ([0.5 * j for j in range(2 * window)], [1.0] * (2 * window)),
            "all values are equal, and a weighted mean of equal values is the same whatever the "
            "weights are",
            says="weighted mean of equal values",
        ),
        Mutant(
            lambda window, tile: ([0.5 * j for j in range(window)], list(range(window))),
            "the text fits the window, so the window's old edge never comes into play",
            says="fits the window",
        ),
        Mutant(
            lambda window, tile: ([10.0 * j for j in range(2 * window)], list(range(2 * window))),
            "the scores rise so steeply that each query hears only its newest key; the others "
            "are drowned, and nobody notices if one is missing or too many",
            says="are drowned",
        ),
    ),
)
