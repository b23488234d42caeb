"""The sweeps: a figure says what was measured, and its title only what the numbers bear out."""

import pytest
from samples import CONTEXTS, FRAMES, hasty, sweep

from mistral_edu.sliding_window import reach
from mistral_edu.viz import chunk_sweep_frame, figure, memory_sweep_frame, reach_sweep_frame


def test_only_a_line_that_is_flat_at_its_end_is_called_so() -> None:
    frame = FRAMES["memory, one flat line"]
    assert frame.flat == {"Mistral-7B": 15.0}
    assert frame.title == "Mistral-7B stops growing at 15.0 GB, however long the text"
    growing = memory_sweep_frame([1, 2], {"a": [1.0, 2.0], "b": [1.0, 3.0]})
    assert growing.title == "Every line grows with the text, up to 3.0 GB at 2 tokens"


def test_every_line_is_drawn_through_its_numbers() -> None:
    frame = FRAMES["memory, one flat line"]
    (axes,) = figure(frame).axes
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    assert [line.get_label() for line in lines] == list(frame.gigabytes)
    assert [tuple(line.get_ydata()) for line in lines] == list(frame.gigabytes.values())
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 3


def test_the_memory_table_has_a_row_for_each_length() -> None:
    lines = FRAMES["memory, one flat line"].to_text().splitlines()
    assert lines[1] == " tokens  Mistral-7B  no window  no window, no sharing"
    assert lines[-1] == "131,072     15.0 GB    31.7 GB                84.8 GB"
    assert len(lines) == 2 + len(CONTEXTS)


def test_a_sweep_that_does_not_fit_its_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' has 1 numbers for 2 lengths"):
        memory_sweep_frame([1, 2], {"a": [1.0]})
    with pytest.raises(ValueError, match="1 lengths and 1 models"):
        memory_sweep_frame([1], {"a": [1.0]})
    with pytest.raises(ValueError, match="window=4 has 1 measurement for 2 depths"):
        reach_sweep_frame([1, 2], {4: [4]})
    with pytest.raises(ValueError, match="2 cases for windows .2, 4.: give all 4"):
        chunk_sweep_frame({(2, 1, 1): True, (4, 3, 1): True})


def test_the_reach_title_counts_what_lies_off_the_line() -> None:
    depths = [1, 2, 3]
    exact = {window: [reach(depth, window) for depth in depths] for window in (1, 4)}
    assert reach_sweep_frame(depths, exact).title.startswith("Every measured reach lies on")
    one_off = reach_sweep_frame(depths, {**exact, 4: [4, 7, 11]})
    assert one_off.astray == [(3, 4, 11)]
    assert one_off.title == "1 of 6 measured reaches do not lie on 1 + L·(W − 1)"
    assert "1 are off the line" in one_off.summary


def test_the_reach_dots_are_the_measurements() -> None:
    frame = FRAMES["reach sweep on the line"]
    (axes,) = figure(frame).axes
    dots = [tuple(line.get_ydata()) for line in axes.lines if line.get_marker() == "o"]
    assert dots == list(frame.measured.values())


def test_the_chunk_title_praises_haste_only_where_it_is_harmless() -> None:
    assert sweep(hasty).title.startswith("Haste goes unpunished for single tokens")
    assert sweep(lambda *case: False).title == "Exact in every one of 216 cases"
    blamed = sweep(lambda window, length, chunk: chunk == 1 and length > window)
    assert blamed.title == "Wrong in 22 of 216 cases, single tokens or short texts among them"
    assert "All of these lie above" not in blamed.summary


def test_every_wrong_cell_is_crossed_and_the_line_stands_at_the_window() -> None:
    frame = sweep(hasty)
    for axes, window in zip(figure(frame).axes, frame.windows, strict=True):
        crosses = axes.collections[0].get_offsets() - 0.5
        found = {(frame.lengths[int(row)], frame.chunks[int(column)]) for column, row in crosses}
        wrong = {(n, chunk) for (w, n, chunk), bad in frame.wrong.items() if bad and w == window}
        assert found == wrong
        assert axes.lines[0].get_ydata()[0] == window  # Below the row of length W + 1.


def test_the_chunk_text_is_the_grid() -> None:
    lines = sweep(hasty, windows=(4,)).to_text().splitlines()
    assert lines[5] == "W=4 length  5: · · × · × ×"
    assert lines[-1] == "× wrong, · exact; columns are chunks of 1, 2, 3, 4, 5 and 6 tokens"
