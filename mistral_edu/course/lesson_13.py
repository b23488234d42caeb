"""Exercises of lesson 13: online softmax, and the tiles that a window asks for.

The truth is `mistral_edu.online_softmax`. Two more are in `lesson_13_dispatch.py` and, open, in
`lesson_13_probe.py`.
"""

import math

import torch

from mistral_edu.course.checking import by_cases
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.course.lesson_13_dispatch import LEAST
from mistral_edu.course.lesson_13_probe import PROBE
from mistral_edu.online_softmax import absorb, nothing_yet, tiles_to_visit


class ChunksAreGone(RuntimeError):
    """Somebody goes through the chunks a second time."""


class PassingBy(list):
    """Chunks that can be gone through once.

    >>> chunks = PassingBy([[1.0], [2.0]])
    >>> max(map(max, chunks))
    2.0
    >>> sum(map(sum, chunks))
    Traceback (most recent call last):
    mistral_edu.course.lesson_13.ChunksAreGone: you have gone through the chunks once already
    """

    gone = False

    def __iter__(self):
        if self.gone:
            raise ChunksAreGone("you have gone through the chunks once already")
        self.gone = True
        return super().__iter__()


def once(answer, chunks):
    return answer(PassingBy(chunks))


def online(chunks):
    greatest, total = -math.inf, 0.0
    for scores in chunks:
        new = max(greatest, *scores)
        total = total * math.exp(greatest - new) + sum(math.exp(s - new) for s in scores)
        greatest = new
    return greatest, total


def library_online(chunks):
    running = nothing_yet((1,), 1, torch.float64)
    for scores in chunks:
        row = torch.tensor([scores], dtype=torch.float64)
        running = absorb(running, row, torch.zeros(len(scores), 1, dtype=torch.float64))
    return running.greatest.item(), running.total.item()


def online_with(rescale, newest=lambda old, scores: max(old, *scores)):
    """An answer that goes wrong in how it rescales, or in which maximum it takes."""

    def answer(chunks):
        greatest, total = -math.inf, 0.0
        for scores in chunks:
            new = newest(greatest, scores)
            total = total * rescale(greatest, new) + sum(math.exp(s - new) for s in scores)
            greatest = new
        return greatest, total

    return answer


def unscaled(scores):
    return max(scores), sum(map(math.exp, scores))


ONLINE = Exercise(
    id="13.online",
    title="Max and sum in one pass",
    difficulty=2,
    minutes=8,
    task="Scores arrive in chunks, and you may go through them only once. Write "
    "`online(chunks)` for a list of non-empty lists of numbers: return `(m, l)`, the greatest "
    "score and the sum of e^(s − m) over all scores. Scores may be as large as ±1000, where a bare "
    "`math.exp` fails. `math` is imported.",
    stub='''def online(chunks):
    """The greatest score m and the sum of exp(s - m), in one pass."""
    ...''',
    check=by_cases(
        [
            ([[1.0, 2.0]],),
            ([[2.0, 1.0], [0.0]],),
            ([[1.0], [3.0]],),
            ([[1.0], [3.0], [2.0, 5.0], [4.0]],),
            ([[-1000.0], [1000.0, 999.0]],),
            ([[1000.0], [-1000.0]],),
            ([[-3.0], [-2.0, -4.0]],),
        ],
        truth=library_online,
        run=once,
    ),
    hints=(
        "Which two numbers must survive from chunk to chunk? What are they before the first one?",
        "The old sum was measured from the old maximum. e^(s − new) is e^(s − old) times what?",
        "`new = max(m, *scores)`, then `l = l * math.exp(m - new) + …`, then `m = new`. Start "
        "with `m = -math.inf` and `l = 0.0`: math.exp(-math.inf) is 0.",
    ),
    solution=online,
    mutants=(
        Mutant(
            online_with(lambda old, new: 1.0),
            "old and new weights are added up though they are measured from different maxima: "
            "the old sum was never rescaled",
            says="never rescaled",
        ),
        Mutant(
            online_with(lambda old, new: math.exp(new - old)),
            "the old sum is rescaled the wrong way: when the maximum rises, old weights shrink",
            says="the wrong way",
        ),
        Mutant(
            online_with(lambda old, new: math.exp(old - new), lambda old, scores: max(scores)),
            "m is the maximum of the newest chunk only; a later chunk may hold smaller scores",
            says="newest chunk only",
        ),
        Mutant(
            online_with(
                lambda old, new: math.exp(max(old, 0.0) - new),
                lambda old, scores: max(old, 0.0, *scores),
            ),
            "m begins at 0 and stays there when every score is below: the greatest of no scores "
            "is −∞",
            says="begins at 0",
        ),
        Mutant(
            lambda chunks: unscaled([s for scores in chunks for s in scores]),
            "the sum is of e^s, without the maximum taken off: it overflows at a score of 710",
            says="without the maximum",
        ),
        Mutant(
            lambda chunks: (
                greatest := max(max(scores) for scores in chunks),
                sum(math.exp(s - greatest) for scores in chunks for s in scores),
            ),
            "you look for the maximum first and sum after: that is two passes, and the chunks "
            "have gone by",
            says="two passes",
        ),
    ),
)


def tiles(row, tile, window):
    oldest = 0 if window is None else max(0, row * tile - window + 1)
    return list(range(oldest // tile, row + 1))


def library_tiles(row, tile, window):
    at = torch.arange((row + 1) * tile)[None]
    return tiles_to_visit(at, at, window, tile)[row].nonzero()[:, 0].tolist()


def tiles_from(oldest):
    """An answer that opens tiles from a wrong oldest key on."""
    return lambda row, tile, window: list(
        range(0 if window is None else max(0, oldest(row, tile, window)) // tile, row + 1)
    )


def uncut_tiles(row, tile, window):
    last = row * tile + tile - 1
    opened = [n for n in range(row + 1) if window is None or last - n * tile < window]
    return opened or [row]


TILES = Exercise(
    id="13.tiles",
    title="Which tiles to open",
    difficulty=2,
    minutes=9,
    task="Tile number `row` of the queries holds positions row · tile to row · tile + tile − 1; "
    "the keys are cut in the same way. Write `tiles(row, tile, window)`: the list of the numbers "
    "of all key tiles, rising, in which at least one of these queries sees a key. `window` may be "
    "`None`: causal attention. No loop over pairs.",
    stub='''def tiles(row, tile, window):
    """The key tiles that a query tile has to open."""
    ...''',
    check=by_cases(
        [
            (0, 4, 4),
            (0, 2, 8),
            (1, 4, 1),
            (1, 4, 4),
            (2, 4, 5),
            (2, 4, 6),
            (3, 2, 4),
            (5, 1, 3),
            (3, 4, None),
            (4, 8, 9),
        ],
        truth=library_tiles,
    ),
    hints=(
        "The last tile is easy: it is the queries' own. Which query of the tile looks furthest "
        "back?",
        "The first query, at row · tile, sees keys from row · tile − window + 1 on.",
        "That key, but not below 0, lies in tile `key // tile`. Open all tiles from there to "
        "`row`.",
    ),
    solution=tiles,
    mutants=(
        Mutant(
            tiles_from(lambda row, tile, window: row * tile + tile - window),
            "you asked the last query of the tile, but the first one looks furthest back",
            says="asked the last query",
        ),
        Mutant(
            tiles_from(lambda row, tile, window: row * tile - window),
            "a window of W reaches back W − 1 keys; you open a tile in which nobody sees anything",
            says="W − 1 keys",
        ),
        Mutant(
            uncut_tiles,
            "a tile that the window's old edge cuts is left out, though some pairs in it are "
            "visible",
            says="is left out",
        ),
        Mutant(
            lambda row, tile, window: list(range(row + 1)),
            "nothing is missing, but tiles that are too old for everyone are opened: that is the "
            "causal sweep, without the window",
            says="without the window",
        ),
    ),
)

EXERCISES = (ONLINE, TILES, LEAST, PROBE)
