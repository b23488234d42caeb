"""In a real browser, the ring of lesson 08 turns under the learner's hand."""

import pytest
from explored import Explored

from mistral_edu.viz import ring_frame

pytestmark = pytest.mark.browser

BOXES = {"window": "window (slots)", "prompt": "prompt (tokens)", "chunk": "chunk (tokens)"}


@pytest.fixture(scope="module")
def lesson(open_lesson):
    """Lesson 08, run from top to bottom, without an error so far."""
    opened = open_lesson("08_rolling_cache")
    assert opened.complaints() == []
    return opened


@pytest.fixture
def ring(lesson) -> Explored:
    """The slot inspector, once its first picture is there."""
    inspector = Explored(lesson, "ring")
    inspector.expect_words(words(inspector, inspector.number("step")))
    return inspector


def words(ring: Explored, step: int, **changed: int) -> str:
    """What the summary must say, from the library, for the values in the labelled boxes."""
    values = {name: ring.number(label) for name, label in BOXES.items()}
    return ring_frame(**(values | changed), step=step).summary


def test_arrow_keys_turn_the_ring(ring):
    start, before = ring.number("step"), ring.picture()
    ring.press("step", "ArrowRight")
    ring.expect_picture(words(ring, start + 1), before)
    before = ring.picture()
    ring.press("step", "ArrowRight")
    ring.expect_picture(words(ring, start + 2), before)


def test_buttons_and_boxes_are_reached_by_name(lesson, ring):
    start, before = ring.number("step"), ring.picture()
    ring.root.get_by_role("button", name="Next").press("Enter")
    ring.expect_picture(words(ring, start + 1), before)
    before, window = ring.picture(), ring.number(BOXES["window"])
    ring.root.get_by_role("spinbutton", name=BOXES["window"], exact=True).fill(str(window + 1))
    lesson.page.keyboard.press("Enter")
    ring.expect_picture(words(ring, start + 1, window=window + 1), before)


def test_the_ring_has_manners(ring):
    ring.expect_manners([*BOXES.values(), "step"])
