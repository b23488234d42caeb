"""In a real browser, the tile sweep of lesson 13 is swept by the learner's hand."""

import pytest
from explored import Explored
from playwright.sync_api import expect

from mistral_edu.viz import tile_frame

pytestmark = pytest.mark.browser

WINDOW, TILE = "window (tokens)", "tile (tokens)"


@pytest.fixture(scope="module")
def tiles(open_lesson) -> Explored:
    """The tile sweep of lesson 13, run from top to bottom, without an error so far."""
    lesson = open_lesson("13_flash_attention")
    assert lesson.complaints() == []
    return Explored(lesson, "tiles")


def test_arrow_keys_and_buttons_sweep_the_tiles(tiles):
    tiles.expect_words(tile_frame(window=6, tile=4, step=5).summary)
    before = tiles.picture()
    tiles.press("step", "ArrowRight")
    tiles.expect_picture(tile_frame(window=6, tile=4, step=6).summary, before)
    before = tiles.picture()
    tiles.root.get_by_role("button", name="Last").press("Enter")
    tiles.expect_picture(tile_frame(window=6, tile=4, step=9).summary, before)


def test_window_and_tile_are_reached_by_name(tiles):
    tiles.root.get_by_role("button", name="Last").press("Enter")
    tiles.expect_words(tile_frame(window=6, tile=4, step=9).summary)
    before = tiles.picture()
    tiles.root.get_by_role("combobox", name=TILE).select_option("8")
    tiles.expect_picture(tile_frame(window=6, tile=8, step=3).summary, before)
    assert tiles.number("step") == 3
    before = tiles.picture()
    tiles.press(WINDOW, "Home")
    tiles.expect_picture(tile_frame(window=1, tile=8, step=2).summary, before)
    expect(tiles.slider(TILE)).to_have_attribute("aria-valuetext", "8")


def test_the_sweep_has_manners(tiles):
    tiles.expect_manners([WINDOW, TILE, "step"])
    tiles.expect_fitting_pictures()
