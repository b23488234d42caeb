"""The tile sweep: every number in it against the plain softmax over the keys taken in so far."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from mistral_edu import online_softmax
from mistral_edu.viz import explore_tiles, figure, speed_up_frame, tile_frame, tile_steps
from mistral_edu.viz import tile_sweep as data

TILES = (1, 2, 4, 8, 16)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("window", [1, 3, 4, 6, 16])
def test_every_step_is_the_plain_softmax_over_the_pairs_taken_in(window, tile):
    scores, values = data._head()
    for step in range(0, tile_steps(window, tile) + 1, max(1, tile_steps(window, tile) // 9)):
        frame = tile_frame(window, tile, step)
        taken = torch.tensor(frame.taken)
        hidden = scores.masked_fill(~taken, -torch.inf)
        expected = (hidden.softmax(dim=1) @ values)[:, 0].numpy()
        begun = frame.taken.any(axis=1)
        np.testing.assert_allclose(frame.output[begun], expected[begun], atol=1e-12)
        assert np.isnan(frame.output[~begun]).all()
        greatest, total = hidden.amax(dim=1).numpy(), hidden.logsumexp(dim=1).exp().numpy()
        np.testing.assert_allclose(frame.greatest[begun], greatest[begun])
        np.testing.assert_allclose(
            frame.total[begun] * np.exp(frame.greatest[begun]), total[begun], rtol=1e-12
        )


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("window", range(1, 17))
def test_the_last_step_is_the_truth_and_what_was_skipped_held_nothing(window, tile):
    frame = tile_frame(window, tile, tile_steps(window, tile))
    assert frame.arrived.all() and (frame.taken == frame.seen).all()
    assert all(np.isfinite(x).all() for x in (frame.greatest, frame.total, frame.output))
    whole = frame.seen.reshape(len(frame.visits), tile, len(frame.visits), tile)
    assert (whole.any(axis=(1, 3)) == frame.visits).all()
    assert frame.title.startswith("All 16 outputs equal the plain softmax")


def test_a_sweep_that_forgets_to_rescale_is_not_called_equal(monkeypatch):
    def careless(running, scores, values):
        right = online_softmax.absorb(running, scores, values)
        total = running.total + (scores - right.greatest).exp().sum(dim=-1, keepdim=True)
        return online_softmax.Running(right.greatest, total, right.mixed)

    monkeypatch.setattr(data, "absorb", careless)
    frame = tile_frame(6, 4, 9)
    assert not frame.arrived.all()
    assert frame.title == "Tile 9 of 9: queries 12–15 meet keys 12–15, 10 of 16 pairs visible"


def test_the_text_is_the_table_of_rows():
    lines = tile_frame(window=6, tile=4, step=5).to_text().splitlines()
    assert lines[0] == "Tile 5 of 9: queries 8–11 meet keys 4–7, 13 of 16 pairs visible"
    assert lines[1].split("  ")[0] == "query" and len(lines) == 18
    assert lines[-1].split()[:5] == ["15", "0", "–", "–", "–"]
    assert tile_frame(16, 1, 70).title == "Tile 70 of 136: query 11 meets key 3, visible"


def test_hatched_and_outlined_is_what_the_words_say():
    frame = tile_frame(window=6, tile=4, step=5)
    grid, numbers, outputs = figure(frame).axes
    hatched = [patch for patch in grid.patches if patch.get_hatch()]
    assert sum(len(patch.get_path().vertices) // 5 for patch in hatched) == frame.skipped * 16
    (lit,) = [patch for patch in grid.patches if isinstance(patch, Rectangle)]
    assert (lit.get_x(), lit.get_y(), lit.get_width()) == (4, 8, 4)
    assert "3.22" in [text.get_text() for text in numbers.texts]
    (dots,) = outputs.lines
    assert list(dots.get_xdata()) == list(frame.output[:12])


@pytest.mark.parametrize("name", ["window", "tile", "step"])
@pytest.mark.usefixtures("undrawn")
def test_every_control_moves_over_its_whole_range(name):
    explorer = explore_tiles(step=9)
    control = explorer.controls[name]
    has_options = hasattr(control, "options")
    ends = (0, len(control.options) - 1) if has_options else (control.min, control.max)
    for value in range(ends[0], ends[1] + 1):
        setattr(control, "index" if has_options else "value", value)
        assert explorer.frame.summary == tile_frame(**explorer.values).summary
        assert explorer.controls["step"].max == explorer.frame.steps


@pytest.mark.usefixtures("undrawn")
def test_buttons_walk_the_sweep_and_stop_at_its_ends():
    explorer, walked = explore_tiles(), []
    for name in ("Back", "Next", "Next", "Last", "Next", "First"):
        explorer.stepper.buttons[name].click()
        walked.append(explorer.frame.step)
    assert walked == [0, 1, 2, 9, 9, 0]


def test_what_cannot_be_swept_is_refused():
    with pytest.raises(ValueError, match=r"step=10 is not in 0 \.\. 9"):
        tile_frame(step=10)
    with pytest.raises(ValueError, match="tile=3 divide 16"):
        tile_frame(tile=3)
    with pytest.raises(ValueError, match="without rows"):
        speed_up_frame("nothing", [])


def test_the_speed_up_table_has_a_row_for_each_figure():
    row = {"what": "model", "dtype": "float32", "backend": "sdpa", "extra_bytes": 2**21}
    rows = [row | {"length": n, "seconds": n / 1e4, "speed_up": None} for n in (8, 16)]
    frame = speed_up_frame("A finding", rows)
    assert frame.to_text().splitlines()[2].split() == [
        *("model", "float32", "sdpa", "8", "0.0008", "–", "2"),
    ]
    assert "0.0008 seconds at 8 tokens and 0.0016 at 16" in frame.summary
