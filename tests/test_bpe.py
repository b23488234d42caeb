"""Merging, cutting and learning, held against the plainest possible versions of the same rules."""

import random
import time
from collections import Counter

import pytest

from mistral_edu.bpe import cut_where_nothing_merges, merge, touching
from mistral_edu.bpe_training import LONGEST_PIECE, choose_characters, count_words, cut_words, learn


def merge_by_definition(symbols, scores):
    parts = list(symbols)
    while True:
        joins = [left + right for left, right in zip(parts, parts[1:], strict=False)]
        best = max((scores[join] for join in joins if join in scores), default=None)
        if best is None:
            return parts
        place = next(i for i, join in enumerate(joins) if scores.get(join) == best)
        parts[place : place + 2] = [joins[place]]


def learn_by_definition(words, count):
    scores = {}
    while len(scores) < count:
        pairs = Counter()
        for word, frequency in words.items():
            parts = merge_by_definition(word, scores)
            for left, right in zip(parts, parts[1:], strict=False):
                if len(left + right) <= LONGEST_PIECE:
                    pairs[left + right] += frequency
        if not pairs:
            break
        scores[min(pairs, key=lambda pair: (-pairs[pair], pair))] = -len(scores)
    return list(scores)


def random_word(rng, letters, longest):
    return "".join(rng.choices(letters, k=rng.randint(1, longest)))


def random_vocabularies(count):
    """Small vocabularies full of ties, over few letters, so that pieces overlap all the time."""
    rng = random.Random(1)
    for _ in range(count):
        pieces = {random_word(rng, "abc", 4) for _ in range(rng.randint(1, 12))}
        yield rng, {piece: float(rng.randint(-3, 0)) for piece in sorted(pieces)}


def test_merging_equals_the_definition_best_score_first_then_leftmost():
    for rng, scores in random_vocabularies(1500):
        word = random_word(rng, "abcd", 14)
        assert merge(word, scores) == merge_by_definition(word, scores), (word, scores)


def test_a_tie_goes_to_the_leftmost_pair():
    assert merge("aaaaa", {"aa": 0.0}) == ["aa", "aa", "a"]
    assert merge("xyx", {"xy": -1.0, "yx": -1.0}) == ["xy", "x"]


def test_a_pair_whose_left_half_has_moved_on_is_not_merged_again():
    scores = {"ba": 3.0, "ab": 1.0, "aba": 0.5, "bab": 2.0}
    for word in ("ababab", "babab", "abab"):
        assert merge(word, scores) == merge_by_definition(word, scores)


def test_cutting_where_nothing_merges_never_changes_the_pieces():
    for rng, scores in random_vocabularies(500):
        text = random_word(rng, "abcd", 30)
        parts = list(cut_where_nothing_merges(text, touching(scores)))
        assert "".join(parts) == text
        assert [piece for part in parts for piece in merge(part, scores)] == merge(text, scores)


@pytest.mark.parametrize("text", ["", "a"])
def test_text_too_short_to_have_a_pair_is_not_cut(text):
    assert list(cut_where_nothing_merges(text, set())) == [text] * bool(text)


def test_one_long_word_takes_near_linear_time():
    scores = {"a" * 2**power: -float(power) for power in range(1, 5)}
    start = time.process_time()
    assert len(merge("a" * 160_000, scores)) == 10_000
    assert time.process_time() - start < 15, "quadratic time would be minutes"


def test_learning_equals_counting_everything_afresh_each_round():
    rng = random.Random(2)
    for _ in range(60):
        words = {random_word(rng, "▁aabc", 10): rng.randint(1, 5) for _ in range(12)}
        assert learn(words, 15) == learn_by_definition(words, 15), words


def test_the_order_of_the_words_changes_nothing():
    rng = random.Random(3)
    words = {random_word(rng, "abcde", 8): rng.randint(1, 4) for _ in range(200)}
    shuffled = dict(rng.sample(sorted(words.items()), len(words)))
    assert learn(words, 80) == learn(shuffled, 80)


def test_a_piece_learned_twice_by_different_pairs_is_one_piece():
    pieces = learn({"abc": 9, "xab": 5, "bcx": 8, "xabc": 3}, 20)
    assert len(pieces) == len(set(pieces))


def test_no_piece_is_longer_than_the_limit():
    pieces = learn({"abcdefghijklmnopqrstuvwxyz": 3}, 100)
    assert max(map(len, pieces)) <= LONGEST_PIECE


def test_words_are_counted_between_spaces_and_lines_with_a_space_in_front():
    assert count_words(["a b\na", "b  b"]) == {"▁a": 2, "▁b": 3, "▁": 1}
    assert count_words(["a▁b"]) == {"▁a": 1, "▁b": 1}


def test_words_are_cut_at_digits_and_between_letters_and_signs():
    words = {"▁it's": 1, "▁12": 2, "▁(हि)": 1, "▁a-b_": 1}
    parts = cut_words(words, "▁its'12(हि)a-b_")
    expected = {"▁it": 1, "'": 1, "s": 1, "▁": 2, "1": 2, "2": 2, "▁(": 1, "हि": 1, ")": 1}
    assert parts == expected | {"▁a": 1, "-": 1, "b": 1, "_": 1}


def test_characters_without_a_piece_of_their_own_cut_the_word():
    assert cut_words({"▁aéb": 1}, "▁ab") == {"▁a": 1, "b": 1}


@pytest.mark.parametrize(
    ("coverage", "chosen"),
    [(0.0, ["▁"]), (0.5, ["b", "▁"]), (0.7, ["b", "a", "▁"]), (1.0, list("ba▁c"))],
)
def test_the_most_frequent_characters_are_chosen_until_the_share_is_reached(coverage, chosen):
    assert choose_characters({"▁bba": 1, "bba": 1, "▁bac": 1, "b": 1}, coverage) == chosen


def test_a_word_without_end_is_learned_from_in_parts():
    parts = cut_words({"▁" + "a" * 600: 2, "=" * 300: 1}, "▁a=")
    assert parts == {"▁" + "a" * 256: 2, "a" * 256: 2, "a" * 88: 2, "=" * 256: 1, "=" * 44: 1}
