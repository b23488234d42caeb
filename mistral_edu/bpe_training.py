"""Learn the pieces of a byte-pair vocabulary: over and over, the most frequent two neighbours.

    next piece = arg max over xy of  Σ over words w of  frequency(w) · (how often xy occurs in w)

Source: Sennrich, Haddow and Birch, 2016 (arXiv:1508.07909), section 3.2. Built in lesson 01.

Conventions, chosen to match how the real Mistral vocabulary looks:
- A piece is known by its text, whichever pair made it, because encoding looks at nothing else.
- Equal counts go to the alphabetically first text, so the result depends on the text alone.
- A piece never crosses a word: ▁ (U+2581, a space) only begins one, a digit is always alone, and
  letters do not mix with other signs, and what runs on for longer is cut every 256 characters,
  because a merge looks through the whole word.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

from mistral_edu.bpe import merge
from mistral_edu.sentencepiece_model import SPACE, Kind, Piece, SentencePieceModel, byte_piece
from mistral_edu.text_encoder import refuse_half_characters

LONGEST_PIECE = 16
LONGEST_WORD = 256


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count what stands between spaces, each with a ▁ in front; a line is a text of its own.

    Raises ValueError if `texts` is one text instead of several, or if a text holds half a surrogate
    pair, which UTF-8 cannot spell.

    >>> count_words(["to be", "or not to be"]).most_common(2)
    [('▁to', 2), ('▁be', 2)]
    """
    if isinstance(texts, str):
        raise ValueError(f"texts is one text, {texts[:40]!r}, expected several; give [text]")
    words: Counter[str] = Counter()
    for text in texts:
        refuse_half_characters(text)
        for line in text.splitlines():
            words.update(SPACE + word for word in line.replace(SPACE, " ").split(" "))
    return words


def choose_characters(words: Mapping[str, int], coverage: float) -> list[str]:
    """Choose the fewest characters that make up a share of the text, the most frequent first.

    ▁ is always chosen, or a space would be spelled in bytes and read back as ▁. The null character
    never is: SentencePiece reads no file whose pieces hold one.

    Arguments:
        words: word → how often it occurs.
        coverage: the share to reach, 0 to 1. The rest is spelled in bytes.

    Raises ValueError if the coverage is outside that range.

    >>> choose_characters({"▁aab": 1, "▁a": 1}, 0.5)
    ['a', '▁']
    """
    if not 0 <= coverage <= 1:
        raise ValueError(f"character_coverage is {coverage}, expected a share from 0 to 1")
    counts = Counter({SPACE: 0})
    for word, frequency in words.items():
        for character in word.replace("\0", ""):
            counts[character] += frequency
    wanted, reached, chosen = coverage * counts.total(), 0, []
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if reached < wanted or character == SPACE:
            chosen.append(character)
            reached += count
    return chosen


def word_pattern(characters: Iterable[str]) -> re.Pattern[str]:
    """Make the pattern that cuts a word where the kind of character changes.

    A leading ▁ stays with what follows it, except with a digit. Characters that are not in
    `characters` match nothing: they will be bytes, and bytes never merge.

    >>> word_pattern("▁don't!42").findall("▁don't!!42 ▁42")
    ['▁don', "'", 't', '!!', '4', '2', '▁', '4', '2']
    """
    kinds: dict[str, list[str]] = {"letter": [], "digit": [], "sign": []}
    for character in sorted(set(characters) - {SPACE}):
        kinds[_kind(character)].append(re.escape(character))
    letter, digit, sign = (f"[{''.join(each)}]" if each else "(?!)" for each in kinds.values())
    run = f"{{1,{LONGEST_WORD}}}"
    return re.compile(f"{SPACE}?{letter}{run}|{SPACE}?{sign}{run}|{digit}|{SPACE}")


def _kind(character: str) -> str:
    if character.isdecimal():
        return "digit"
    return "letter" if unicodedata.category(character)[0] in "LM" else "sign"


def cut_words(words: Mapping[str, int], characters: Iterable[str]) -> Counter[str]:
    """Cut every word as `word_pattern` says and count the parts, which no piece will cross.

    >>> cut_words({"▁so": 2, "▁so!": 1}, "▁so!")
    Counter({'▁so': 3, '!': 1})
    """
    pattern = word_pattern(characters)
    parts: Counter[str] = Counter()
    for word, frequency in words.items():
        for part in pattern.findall(word):
            parts[part] += frequency
    return parts


def learn(words: Mapping[str, int], count: int) -> list[str]:
    """Learn up to `count` pieces from words, the most useful first; fewer if no pair is left.

    After each new piece only the words that hold it are merged again, from where they stood, with
    the very function that will encode them. So training and encoding cannot disagree.

    Arguments:
        words: word → how often it occurs.
        count: how many pieces to learn, 0 or more.

    >>> learn({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 4)
    ['es', 'est', 'lo', 'low']
    """
    table = PairTable(words)
    scores: dict[str, float] = {}
    while len(scores) < count and (piece := table.most_frequent()):
        scores[piece] = -float(len(scores))
        table.rewrite(piece, scores)
    return list(scores)


class PairTable:
    """How often each pair of neighbours occurs, kept up to date while words are being merged.

    Arguments:
        words: word → how often it occurs.

    >>> table = PairTable({"aab": 2, "ab": 1})
    >>> table.most_frequent()
    'ab'
    >>> table.rewrite("ab", {"ab": 0.0})
    >>> table.most_frequent()
    'aab'
    """

    def __init__(self, words: Mapping[str, int]) -> None:
        self._parts = [list(word) for word in words]
        self._frequency = list(words.values())
        self._counts: Counter[str] = Counter()
        self._places: defaultdict[str, set[int]] = defaultdict(set)
        for place in range(len(self._parts)):
            self._count(place, +1)
        self._heap = [(-count, piece) for piece, count in self._counts.items()]
        heapify(self._heap)

    def most_frequent(self) -> str | None:
        """Return the most frequent pair, joined; None if no pair occurs any more."""
        while self._heap:
            count, piece = self._heap[0]
            if -count == self._counts[piece]:
                return piece
            heappop(self._heap)
        return None

    def rewrite(self, piece: str, scores: Mapping[str, float]) -> None:
        """Merge every word that holds `piece` as a pair, and count its pairs afresh."""
        changed: set[str] = set()
        for place in self._places.pop(piece):
            changed |= self._count(place, -1)
            self._parts[place] = merge(self._parts[place], scores)
            changed |= self._count(place, +1)
        for other in changed:
            if self._counts[other] > 0:
                heappush(self._heap, (-self._counts[other], other))

    def _count(self, place: int, sign: int) -> set[str]:
        """Add or take away the pairs of one word; return them."""
        parts = self._parts[place]
        pairs = [pair for pair in map(str.__add__, parts, parts[1:]) if len(pair) <= LONGEST_PIECE]
        for pair in pairs:
            self._counts[pair] += sign * self._frequency[place]
            if sign > 0:
                self._places[pair].add(place)
        return set(pairs)


def train(texts: Iterable[str], vocab_size: int, character_coverage: float) -> SentencePieceModel:
    """Learn a vocabulary: <unk> <s> </s>, 256 bytes, merged pieces by rank, then characters.

    Arguments:
        texts: what to learn from; each line counts as a text of its own.
        vocab_size: how many pieces to make, the fixed 259 and the characters included.
        character_coverage: share of the text whose characters become pieces, 0 to 1.

    Raises ValueError, naming the nearest possible size, if the texts cannot give `vocab_size`.

    >>> [piece.text for piece in train(["see the sea"], 266, 1.0).pieces[259:]]
    ['se', 'e', '▁', 's', 'a', 'h', 't']
    """
    words = count_words(texts)
    characters = choose_characters(words, character_coverage)
    fixed = [Piece("<unk>", 0.0, Kind.UNKNOWN)]
    fixed += [Piece("<s>", 0.0, Kind.CONTROL), Piece("</s>", 0.0, Kind.CONTROL)]
    fixed += [Piece(byte_piece(byte), 0.0, Kind.BYTE) for byte in range(256)]
    least = len(fixed) + len(characters)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size is {vocab_size}, expected at least {least}: {len(fixed)} fixed pieces and "
            f"{len(characters)} characters; raise it or lower character_coverage"
        )
    merged = learn(cut_words(words, characters), vocab_size - least)
    if least + len(merged) < vocab_size:
        raise ValueError(
            f"vocab_size is {vocab_size}, expected at most {least + len(merged)}: these texts hold "
            "no more pairs to merge; lower it or give more text"
        )
    ranked = [Piece(text, -float(rank)) for rank, text in enumerate(merged + characters)]
    return SentencePieceModel(tuple(fixed + ranked))
