"""A verdict on a page: its words are drawn, and an answer is shown as it is."""

import pytest

from mistral_edu.course.verdict import Outcome, Verdict, inline_html, not_attempted


def test_code_and_emphasis_are_drawn_on_a_page() -> None:
    drawn = not_attempted("08.slot")._repr_html_()
    assert ">...</code> above" in drawn
    assert "`" not in drawn
    assert "`...`" in repr(not_attempted("08.slot"))
    claim = Verdict("08.slot", Outcome.NOT_YET, "not true  it tells *reading the weights* apart")
    assert "tells <em>reading the weights</em> apart" in claim._repr_html_()


@pytest.mark.parametrize("field", ["input", "yours", "expected", "raised", ""])
def test_a_value_is_shown_as_it_is(field: str) -> None:
    line = f"{field:<10}'*a* `b` <c>'"
    drawn = Verdict("08.slot", Outcome.NOT_YET, line)._repr_html_()
    assert "*a* `b` &lt;c&gt;" in drawn


@pytest.mark.parametrize("text", ["2 * 3 * 4", "2*3*4", "x ** y ** z", "5` of 6", "*args, **more"])
def test_text_without_pairs_of_marks_is_itself(text: str) -> None:
    assert inline_html(text) == text


def test_marks_within_code_are_code() -> None:
    assert inline_html("`a *b* <c>`").endswith(">a *b* &lt;c&gt;</code>")
