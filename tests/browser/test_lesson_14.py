"""In a real browser, the roofline of lesson 14 answers to the learner's hand."""

import pytest
from explored import Explored

from mistral_edu.viz import H200, roofline_frame

pytestmark = pytest.mark.browser

SLIDERS = ["batch (texts)", "context (tokens)"]


@pytest.fixture(scope="module")
def lesson(open_lesson):
    """Lesson 14, run from top to bottom, without an error so far."""
    opened = open_lesson("14_the_full_7b")
    assert opened.complaints() == []
    return opened


@pytest.fixture(scope="module")
def roofline(lesson) -> Explored:
    """The roofline, once its first picture is there."""
    explored = Explored(lesson, "roofline")
    explored.expect_words(roofline_frame(batch=8, context=128).summary)
    return explored


def test_arrow_keys_move_the_batch_and_the_context(roofline):
    before = roofline.picture()
    roofline.press("batch (texts)", "ArrowRight")
    roofline.expect_picture(roofline_frame(batch=9, context=128).summary, before)
    before = roofline.picture()
    roofline.press("context (tokens)", "End")
    roofline.expect_picture(roofline_frame(batch=9, context=4096).summary, before)


def test_precision_and_machine_are_chosen_by_name(roofline):
    before = roofline.picture()
    roofline.root.get_by_role("combobox", name="precision").select_option("int4")
    roofline.expect_picture(roofline_frame(precision="int4", batch=9).summary, before)
    before = roofline.picture()
    roofline.root.get_by_role("combobox", name="machine").select_option(H200.name)
    roofline.expect_picture(roofline_frame(H200, "int4", batch=9).summary, before)


def test_the_machine_that_runs_the_lesson_can_be_chosen(lesson, roofline):
    before = roofline.picture()
    roofline.root.get_by_role("combobox", name="machine").select_option("this machine, 1 thread")
    roofline.image.and_(lesson.page.get_by_alt_text("A roofline of this machine")).wait_for()
    assert roofline.picture() != before
    assert lesson.complaints() == []


def test_the_roofline_has_manners(roofline):
    roofline.expect_manners(SLIDERS)
    roofline.expect_fitting_pictures()
