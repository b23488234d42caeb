"""How varied the world is, and how much of the held-out text training has seen.

    distinct n-grams of words / all n-grams,  and the share of held-out n-grams that training has

Lesson: 10_heads_and_training.
"""

from collections.abc import Iterable

from mistral_edu.training.world import stories

SIZES = (2, 4, 8, 16)


def grams(texts: Iterable[str], size: int) -> list[tuple[str, ...]]:
    """All runs of `size` words, in order, none across two texts.

    >>> grams(["a b c", "d"], 2)
    [('a', 'b'), ('b', 'c')]
    """
    found = []
    for text in texts:
        words = text.split()
        found += [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return found


def variety(seed: int, train: int, test: int) -> dict[int, tuple[float, float]]:
    """For each n: the share of n-grams in `train` bodies that are distinct, and the share of those
    in `test` held-out bodies that the training bodies contain.

    >>> distinct, seen = variety(0, train=50, test=10)[16]
    >>> distinct > 0.9, seen < 0.5
    (True, True)
    """
    learned = [story.body for story in stories(seed, count=train)]
    held_out = [story.body for story in stories(seed, split="test", count=test)]
    figures = {}
    for size in SIZES:
        known = grams(learned, size)
        distinct, asked = set(known), grams(held_out, size)
        seen = sum(gram in distinct for gram in asked) / len(asked)
        figures[size] = (len(distinct) / len(known), seen)
    return figures
