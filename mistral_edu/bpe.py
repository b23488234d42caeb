"""Byte-pair encoding: cut text into the pieces of a vocabulary by joining neighbours, best first.

    repeat:  i* = arg max over i of score(xᵢ + xᵢ₊₁)   (the leftmost, if several are best)
             xᵢ, xᵢ₊₁  →  xᵢ + xᵢ₊₁
    until no two neighbours make a piece

Source: Sennrich, Haddow and Birch, 2016 (arXiv:1508.07909), section 3.2; priority by score as in
SentencePiece (Kudo and Richardson, 2018). Built in lesson 01.

Conventions: symbols are strings, one character each at the start; `scores` maps every piece of the
vocabulary to its score, higher first. Nothing here knows about ids, spaces or bytes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush


def merge(symbols: Sequence[str], scores: Mapping[str, float]) -> list[str]:
    """Join neighbouring symbols, best score first, until no two neighbours make a piece.

    Every pair that makes a piece waits on a heap. A join takes two symbols away from their other
    partners, so a pair taken from the heap counts only if both halves are still what they were.
    n symbols take O(n log n) time: a join adds at most two pairs.

    Arguments:
        symbols: what to start from, usually the characters of a word.
        scores: piece → score; a higher score joins earlier.

    Returns the pieces, left to right; together they spell the symbols.

    >>> merge("abab", {"ab": -1.0, "ba": 0.0})
    ['a', 'ba', 'b']
    >>> merge("aaa", {"aa": 0.0})
    ['aa', 'a']
    """
    parts = list(symbols)
    end = len(parts)
    right_of = list(range(1, end + 1))
    left_of = list(range(-1, end - 1))
    waiting = [
        (-scores[joined], left, left + 1, joined)
        for left, joined in enumerate(map(str.__add__, parts, parts[1:]))
        if joined in scores
    ]
    heapify(waiting)
    while waiting:
        _, left, right, joined = heappop(waiting)
        if parts[left] + parts[right] != joined:
            continue
        before, after = left_of[left], right_of[right]
        parts[left], parts[right], right_of[left] = joined, "", after
        if after < end:
            left_of[after] = left
        for first, second in ((before, left), (left, after)):
            if first >= 0 and second < end and (joined := parts[first] + parts[second]) in scores:
                heappush(waiting, (-scores[joined], first, second, joined))
    return [part for part in parts if part]


def touching(pieces: Collection[str]) -> set[str]:
    """Collect every two characters that stand side by side inside some piece.

    >>> sorted(touching({"abc", "d"}))
    ['ab', 'bc']
    """
    return {piece[at : at + 2] for piece in pieces for at in range(len(piece) - 1)}


def cut_where_nothing_merges(text: str, together: Collection[str]) -> Iterator[str]:
    """Cut text between two characters that no piece holds side by side.

    No merge can cross such a place, so the parts can be encoded one by one, and equal parts (most
    of them are words) need to be encoded only once.

    Arguments:
        text: any text.
        together: the character pairs of the vocabulary, from `touching`.

    >>> list(cut_where_nothing_merges("▁hi▁you", touching({"▁hi", "▁yo", "ou"})))
    ['▁hi', '▁you']
    """
    start = 0
    for at, pair in enumerate(map(str.__add__, text, text[1:]), start=1):
        if pair not in together:
            yield text[start:at]
            start = at
    if text:
        yield text[start:]
