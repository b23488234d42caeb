"""The reach cone's data: composed from the rule, held against the formula."""

import numpy as np
import pytest

from mistral_edu.sliding_window import reach
from mistral_edu.viz import explore_reach, figure, reach_frame


def heard(position: int, layers: int, window: int) -> set[int]:
    """Inputs that reach a position through some layers, by walking every path."""
    if layers == 0:
        return {position}
    below = range(max(0, position - window + 1), position + 1)
    return set().union(*(heard(other, layers - 1, window) for other in below))


@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_cone_holds_exactly_the_positions_that_paths_reach(window: int, layers: int) -> None:
    frame = reach_frame(window, layers, length=12)
    for below, row in enumerate(frame.cone):
        assert set(np.flatnonzero(row)) == heard(11, below, window)


@pytest.mark.parametrize("window", [1, 2, 4, 8])
@pytest.mark.parametrize("layers", [1, 3, 6])
def test_a_long_enough_sequence_reaches_what_the_formula_says(window: int, layers: int) -> None:
    frame = reach_frame(window, layers)
    assert frame.reached == frame.formula == reach(layers, window)
    assert f"= {frame.formula}" in frame.title


def test_a_short_sequence_says_that_it_cuts_the_cone() -> None:
    frame = reach_frame(window=8, layers=6, length=24)
    assert (frame.reached, frame.formula) == (24, 43)
    assert "has only 24 tokens" in frame.title


def test_the_cone_comes_from_the_rule_and_not_from_the_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_too_many(query_positions, key_positions, window):
        behind = query_positions[:, :, None] - key_positions[:, None, :]
        return (behind >= 0) & (behind <= window)

    monkeypatch.setattr("mistral_edu.viz.reach.visible", one_too_many)
    assert reach_frame(window=4, layers=3, length=24).reached == 13


def test_the_text_is_the_cone() -> None:
    assert reach_frame(window=2, layers=2).to_text().splitlines() == [
        "Through 2 layers of window 2, the last position hears 3 inputs: 1 + 2·(2−1) = 3",
        "              0 1 2 3 4 reached",
        "after layer 2 . . . . o       1",
        "after layer 1 . . . o o       2",
        "        input . . o o o       3",
        "o: can influence the last position",
    ]


@pytest.mark.usefixtures("undrawn")
def test_every_control_moves_over_its_whole_range() -> None:
    explorer = explore_reach(length=24)
    for window in range(1, explorer.controls["window"].max + 1):
        explorer.controls["window"].value = window
        for layers in (1, explorer.controls["layers"].max):
            explorer.controls["layers"].value = layers
            expected = min(24, reach(layers, window))
            assert explorer.frame.reached == expected
            assert f" and {expected}. The formula" in explorer.frame.summary


def test_the_figure_draws_one_line_for_each_pair_inside_the_cone() -> None:
    frame = reach_frame(window=3, layers=2)
    lines = figure(frame).axes[0].collections[0].get_segments()
    assert len(lines) == 3 + 3 * 3


def test_windows_and_layers_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="window=0"):
        reach_frame(window=0)
