"""The mask explorer's data: the rule, cell by cell."""

import numpy as np
import pytest
import torch

from mistral_edu.sliding_window import visible_pairs
from mistral_edu.viz import explore_mask, mask_frame
from mistral_edu.viz.mask import KINDS


def by_hand(query: int, key: int, window: int | None) -> str:
    """The reason for one cell, spelled out."""
    if query < 0 or key < 0:
        return "absent"
    if key > query:
        return "future"
    return "allowed" if window is None or query - key < window else "too old"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 2, 5, 16])
@pytest.mark.parametrize("window", [1, 4, 5, 6, 16])
def test_every_cell_agrees_with_the_rule_spelled_out(kind: str, length: int, window: int) -> None:
    frame = mask_frame(kind, length, window)
    names = ("allowed", "future", "too old", "absent")
    for row, query in enumerate(frame.query_positions):
        for column, key in enumerate(frame.key_positions):
            expected = by_hand(query, key, frame.window)
            assert names[frame.reasons[row, column]] == expected, (query, key)
    assert sum(frame.counts.values()) == frame.allowed.size


@pytest.mark.parametrize("window", [1, 3, 8, 9])
def test_allowed_cells_are_counted_as_the_library_counts_pairs(window: int) -> None:
    assert mask_frame("window", 8, window).counts["allowed"] == visible_pairs(8, window)
    assert mask_frame("causal", 8, window).counts["allowed"] == visible_pairs(8, None)


def test_padding_sees_nothing_and_is_never_seen() -> None:
    frame = mask_frame("left-padded", length=6, window=3, padding=2)
    assert frame.keys_seen.tolist() == [0, 0, 1, 2, 3, 3]
    assert not frame.allowed[:, :2].any()


def test_padding_leaves_at_least_one_token() -> None:
    frame = mask_frame("left-padded", length=4, window=3, padding=15)
    assert frame.query_positions.tolist() == [-1, -1, -1, 0]


@pytest.mark.parametrize("window", [1, 2, 4, 7])
@pytest.mark.parametrize("chunk", [1, 2, 5, 16])
def test_a_ring_shows_each_query_the_same_keys_as_a_plain_window(window: int, chunk: int) -> None:
    frame = mask_frame("ring cache", length=11, window=window, chunk=chunk)
    for row, query in enumerate(frame.query_positions):
        seen = sorted(frame.key_positions[frame.allowed[row]])
        assert seen == list(range(max(0, query - window + 1), query + 1))


def test_a_wrapped_ring_lists_its_keys_in_slot_order() -> None:
    frame = mask_frame("ring cache", length=9, window=4, chunk=3)
    assert frame.key_positions.tolist() == [4, 5, 2, 3, 6, 7, 8]
    assert frame.slots == 4
    assert "out of order" in frame.title


@pytest.mark.parametrize("window", [1, 4, 5])
@pytest.mark.parametrize("length", [1, 4, 8, 10])
@pytest.mark.parametrize("chunk", [1, 2, 3, 16])
def test_right_of_the_divider_stands_the_chunk(window: int, length: int, chunk: int) -> None:
    frame = mask_frame("ring cache", length, window, chunk=chunk)
    held, arriving = frame.key_positions[: frame.slots], frame.key_positions[frame.slots :]
    assert arriving.tolist() == frame.query_positions.tolist()
    earlier = range(length - len(arriving))
    assert sorted(held) == list(earlier)[-window:]


def test_a_single_token_does_not_see_the_one_it_will_evict() -> None:
    frame = mask_frame("ring cache", length=10, window=4, chunk=1)
    assert frame.key_positions.tolist() == [8, 5, 6, 7, 9]
    assert frame.allowed.tolist() == [[True, False, True, True, True]]


def test_gradients_switched_off_in_a_lesson_change_no_picture() -> None:
    with torch.no_grad():
        frame = mask_frame("ring cache", length=10, window=4, chunk=1)
    assert frame.key_positions.tolist() == [8, 5, 6, 7, 9]


@pytest.mark.usefixtures("undrawn")
def test_choosing_the_ring_at_first_shows_keys_out_of_order() -> None:
    explorer = explore_mask(kind="window", length=8, window=4)
    explorer.controls["kind"].value = "ring cache"
    assert "out of order" in explorer.frame.title


def test_the_text_is_the_grid() -> None:
    assert mask_frame("window", length=4, window=2).to_text().splitlines() == [
        "Window 2: 7 pairs instead of 10; no query sees over 2 keys",
        "i\\j  0  1  2  3  keys seen",
        "  0  0  .  .  .          1",
        "  1  1  0  .  .          2",
        "  2  x  1  0  .          2",
        "  3  x  x  1  0          2",
        "number: allowed, i − j   .: future   x: too old   #: absent",
    ]


def test_the_summary_carries_the_numbers() -> None:
    assert mask_frame("window", length=8, window=3).summary == (
        "A mask with a window of 3. A grid of 8 queries by 8 keys: 21 pairs allowed, 28 in the "
        "future, 15 too old, 0 absent. No query sees more than 3 keys."
    )
    assert mask_frame("ring cache", length=8, window=4, chunk=2).summary.startswith(
        "The mask of a chunk, 6 and 7, against a ring of 4 slots holding 4, 5, 2 and 3. "
    )


def test_what_cannot_be_shown_is_refused_with_the_value() -> None:
    with pytest.raises(ValueError, match="length=17"):
        mask_frame("window", length=17)
    with pytest.raises(ValueError, match="kind='diagonal'"):
        mask_frame("diagonal")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("undrawn")
def test_every_control_moves_over_its_whole_range(kind: str) -> None:
    explorer = explore_mask(kind, length=5, window=3)
    for name in ("length", "window", "padding", "chunk"):
        control = explorer.controls[name]
        for value in range(control.min, control.max + 1):
            control.value = value
            assert explorer.frame.to_text() == mask_frame(**explorer.values).to_text()
        control.value = 4


@pytest.mark.usefixtures("undrawn")
def test_only_controls_that_matter_for_the_kind_are_alive() -> None:
    explorer = explore_mask("causal")
    alive = {}
    for kind in KINDS:
        explorer.controls["kind"].value = kind
        alive[kind] = [name for name, c in explorer.controls.items() if not c.disabled]
    assert alive["causal"] == ["kind", "length"]
    assert alive["window"] == ["kind", "length", "window"]
    assert alive["left-padded"] == ["kind", "length", "window", "padding"]
    assert alive["ring cache"] == ["kind", "length", "window", "chunk"]


def test_a_frame_cannot_be_changed() -> None:
    frame = mask_frame()
    with pytest.raises(ValueError, match="read-only"):
        frame.allowed[0, 0] = False
    assert isinstance(frame.allowed, np.ndarray)
