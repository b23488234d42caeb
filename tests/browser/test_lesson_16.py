"""In a real browser, the shards of lesson 16 move, and two processes start from a cell."""

import pytest
from explored import Explored
from playwright.sync_api import expect

from mistral_edu.viz import shards_frame
from mistral_edu.viz.budget_figure import preset_models

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lesson(open_lesson):
    """Lesson 16, run from top to bottom, without an error so far."""
    opened = open_lesson("16_beyond_one_machine")
    assert opened.complaints() == []
    return opened


@pytest.fixture
def shards(lesson) -> Explored:
    """The explorer, once its first picture is there."""
    explored = Explored(lesson, "shards")
    explored.expect_words(words(2, explored.number("stop of the token")))
    return explored


def words(ranks: int, stop: int, model: str = "Mistral-7B") -> str:
    """What the summary must say, from the library; the page counts stops from 1."""
    return shards_frame(preset_models()[model], model, ranks, stop - 1).summary


def test_two_processes_found_the_same_logits(lesson):
    same = lesson.page.get_by_text("the same logits within 1e-5 of the largest: True")
    expect(same.first).to_be_attached()


def test_a_token_walks_and_ranks_double_until_they_are_refused(lesson, shards):
    start, before = shards.number("stop of the token"), shards.picture()
    shards.press("stop of the token", "ArrowRight")
    shards.expect_picture(words(2, start + 1), before)
    before = shards.picture()
    shards.root.get_by_role("button", name="Next").press("Enter")
    shards.expect_picture(words(2, start + 2), before)
    for ranks in (4, 8, 16):
        before = shards.picture()
        shards.press("ranks (processes)", "ArrowRight")
        shards.expect_picture(words(ranks, start + 2), before)
    assert "16 ranks are refused" in words(16, start + 2)
    for ranks in (8, 4, 2):
        shards.press("ranks (processes)", "ArrowLeft")
        shards.expect_words(words(ranks, start + 2))
    for model in ("tiny", "Mistral-7B"):  # and back, for the next test
        before = shards.picture()
        shards.root.get_by_label("model", exact=True).select_option(model)
        shards.expect_picture(words(2, start + 2, model), before)


def test_the_shards_have_manners(shards):
    shards.expect_manners(["ranks (processes)", "stop of the token"])
