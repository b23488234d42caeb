"""In a real browser, the budget of lesson 00 answers to the hand."""

import pytest
from explored import Explored
from playwright.sync_api import expect

from mistral_edu.viz import budget_frame, preset_models

pytestmark = pytest.mark.browser

CONTEXT = "context (tokens)"


@pytest.fixture(scope="module")
def budget(open_lesson) -> Explored:
    """The budget of lesson 00, run from top to bottom, without an error so far."""
    lesson = open_lesson("00_map_and_toolbox")
    assert lesson.complaints() == []
    return Explored(lesson, "budget")


def words(context: int, **changed: str) -> str:
    """What the summary must say, from the library."""
    values = {"model": "Mistral-7B", "component": "mlp", **changed}
    return budget_frame(preset_models()[values["model"]], context=context, **values).summary


def test_arrow_keys_halve_the_context_until_two_bars_are_equal(budget):
    budget.expect_words(words(32_768))
    for context in (16_384, 8_192, 4_096):
        before = budget.picture()
        budget.press(CONTEXT, "ArrowLeft")
        budget.expect_picture(words(context), before)
    frame = budget_frame(preset_models()["Mistral-7B"], context=4_096)
    assert frame.cache_bytes == frame.unbounded_bytes
    expect(budget.slider(CONTEXT)).to_have_attribute("aria-valuetext", "4,096")


def test_lists_are_reached_by_name_and_change_the_picture(budget):
    budget.root.get_by_role("combobox", name=CONTEXT).select_option("4,096")
    budget.expect_words(words(4_096))
    before = budget.picture()
    budget.root.get_by_role("combobox", name="component").select_option("norms")
    budget.expect_picture(words(4_096, component="norms"), before)
    before = budget.picture()
    budget.root.get_by_role("combobox", name="model").select_option("tiny")
    budget.expect_picture(words(4_096, component="norms", model="tiny"), before)


def test_the_budget_has_manners(budget):
    budget.expect_manners(["batch (sequences)", CONTEXT])
    budget.expect_fitting_pictures()
