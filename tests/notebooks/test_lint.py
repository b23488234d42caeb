"""Every lesson follows every rule."""

from pathlib import Path

import lesson_rules
import link_rules
import output_rules
import pytest

from mistral_edu.course import registry

RULES = [
    lesson_rules.the_card_opens_the_lesson,
    lesson_rules.the_sections_stand_in_order,
    lesson_rules.the_sections_hold_what_they_promise,
    lesson_rules.the_exercises_are_the_registered_ones,
    lesson_rules.the_lesson_has_the_right_size,
    output_rules.the_outputs_are_stored_in_order,
    output_rules.the_file_says_nothing_about_its_machine,
    output_rules.the_pictures_have_words,
    link_rules.the_links_lead_somewhere,
    output_rules.nothing_forbidden_is_called,
    output_rules.only_timings_go_unchecked,
]
FOLDER = Path(__file__).parent.parent.parent / "notebooks"
LESSONS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson(path, rule):
    problems = rule(lesson_rules.read(path))
    assert not problems, "\n".join([f"{path.name}:", *problems])


def test_every_notebook_is_a_lesson_of_the_course():
    known = {lesson.notebook for lesson in registry.LESSONS.values()}
    assert {path.name for path in LESSONS} <= known
