"""In a real browser, lesson 06: the mask explorer and the reach explorer answer to the hand."""

import pytest
from explored import PATIENCE, Explored
from playwright.sync_api import expect

from mistral_edu.viz import mask_frame, reach_frame

pytestmark = pytest.mark.browser

MASK_SLIDERS = ["length (tokens)", "window (tokens)", "padding (tokens)", "chunk (tokens)"]


@pytest.fixture(scope="module")
def lesson(open_lesson):
    """Lesson 06, run from top to bottom, without an error so far."""
    opened = open_lesson("06_sliding_window")
    assert opened.complaints() == []
    return opened


def test_the_mask_follows_its_window_and_its_kind(lesson):
    mask = Explored(lesson, "mask")
    mask.expect_words(mask_frame("window", length=8, window=4).summary)
    before = mask.picture()
    mask.press("window (tokens)", "ArrowRight")
    mask.expect_picture(mask_frame("window", length=8, window=5).summary, before)
    before = mask.picture()
    mask.root.get_by_role("combobox", name="kind of mask").select_option("ring cache")
    mask.expect_picture(mask_frame("ring cache", length=8, window=5).summary, before)
    mask.expect_manners(MASK_SLIDERS)
    mask.expect_fitting_pictures()


def test_the_cone_follows_its_layers_and_its_window(lesson):
    cone = Explored(lesson, "reach")
    cone.expect_words(reach_frame(window=4, layers=3, length=24).summary)
    before = cone.picture()
    cone.press("layers", "ArrowRight")
    cone.expect_picture(reach_frame(window=4, layers=4, length=24).summary, before)
    before = cone.picture()
    cone.press("window (tokens)", "Home")
    cone.expect_picture(reach_frame(window=1, layers=4, length=24).summary, before)
    cone.expect_manners(["window (tokens)", "layers"])


def test_a_still_picture_is_said_and_keeps_its_size(lesson):
    spoken = lesson.page.get_by_text(reach_frame(window=4, layers=2, length=8).summary, exact=True)
    expect(spoken).to_have_count(1, timeout=PATIENCE)
    assert spoken.evaluate("words => words.offsetWidth * words.offsetHeight") <= 1
    cell = lesson.page.locator(".jp-Cell").filter(has=spoken)
    assert cell.locator("img").evaluate("i => i.getBoundingClientRect().width === i.naturalWidth")
