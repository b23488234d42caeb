"""In a real browser, the ring of lesson 08 turns under the learner's hand."""

import pytest
from playwright.sync_api import Locator, expect

from mistral_edu.viz import ring_frame

pytestmark = pytest.mark.browser

# A first figure in a cold kernel on a busy machine takes its time; a right one does not wait.
PATIENCE = 30_000
BOXES = {"window": "window (slots)", "prompt": "prompt (tokens)", "chunk": "chunk (tokens)"}


@pytest.fixture(scope="module")
def lesson(open_lesson):
    """Lesson 08, run from top to bottom, without an error so far."""
    opened = open_lesson("08_rolling_cache")
    assert opened.complaints() == []
    return opened


@pytest.fixture
def ring(lesson) -> Locator:
    """The slot inspector, once its first picture is there."""
    inspector = lesson.page.locator(".medu-explorer.medu-ring").first
    expect(inspector.locator(".medu-summary")).to_contain_text("Ring of", timeout=PATIENCE)
    return inspector


def number(ring: Locator, label: str) -> int:
    return int(ring.get_by_label(label, exact=True).input_value())


def words(ring: Locator, step: int, **changed: int) -> str:
    """What the summary must say, from the library, for the values in the labelled boxes."""
    values = {name: number(ring, label) for name, label in BOXES.items()}
    return ring_frame(**(values | changed), step=step).summary


def expect_picture(ring: Locator, text: str, before: str) -> None:
    """Summary, alternative text and pixels have all moved on to the same frame."""
    expect(ring.locator(".medu-summary")).to_have_text(text, timeout=PATIENCE)
    expect(ring.locator("img")).to_have_attribute("alt", text)
    expect(ring.locator("img")).not_to_have_attribute("src", before)
    assert ring.locator("img").evaluate("image => image.naturalWidth") > 100


def picture(ring: Locator) -> str:
    return ring.locator("img").get_attribute("src")


def test_arrow_keys_turn_the_ring(lesson, ring):
    start, before = number(ring, "step"), picture(ring)
    ring.get_by_role("slider").last.focus()
    lesson.page.keyboard.press("ArrowRight")
    expect_picture(ring, words(ring, start + 1), before)
    before = picture(ring)
    lesson.page.keyboard.press("ArrowRight")
    expect_picture(ring, words(ring, start + 2), before)
    assert lesson.complaints() == []


def test_buttons_and_boxes_are_reached_by_name(lesson, ring):
    start, before = number(ring, "step"), picture(ring)
    ring.get_by_role("button", name="Next").press("Enter")
    expect_picture(ring, words(ring, start + 1), before)
    before, window = picture(ring), number(ring, BOXES["window"])
    ring.get_by_label(BOXES["window"], exact=True).fill(str(window + 1))
    lesson.page.keyboard.press("Enter")
    expect_picture(ring, words(ring, start + 1, window=window + 1), before)
    assert lesson.complaints() == []
