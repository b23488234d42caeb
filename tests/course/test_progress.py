"""The journal loses nothing, and the map says what the journal says."""

import json
import os
import re
from pathlib import Path

import pytest
from toys import BYTES, SCHEDULE, SLOT

from mistral_edu import course
from mistral_edu.course import registry
from mistral_edu.course.progress import Journal, home
from mistral_edu.course.verdict import Outcome


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A learner without a past, on a course whose lesson 08 has three toy exercises."""
    toys = (SLOT, BYTES, SCHEDULE)
    monkeypatch.setenv("MISTRAL_EDU_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "exercises", lambda n: toys if n in ("08", "99") else ())
    return Journal(tmp_path / "home" / "progress.jsonl")


@pytest.fixture
def said(capsys):
    """What a command shows where there is no notebook: its text."""

    def run(command, *words):
        capsys.readouterr()
        assert command(*words) is None, "a returned value would show a second time"
        return capsys.readouterr().out.rstrip("\n")

    return run


@pytest.fixture
def drawn(monkeypatch):
    """What a command hands to the notebook, in order."""
    things = []
    monkeypatch.setattr("mistral_edu.course.commands.display", things.append)
    return things


def test_an_untouched_stub_writes_nothing(journal):
    course.check("99.slot", ...)
    assert not journal.path.parent.exists()


def test_checks_hints_and_solutions_are_remembered(journal):
    course.check("99.slot", lambda position, window: 0)
    course.hint("99.slot")
    course.check("99.slot", SLOT.solution)
    course.solution("99.slot")
    standing = journal.read()[0]["99.slot"]
    assert (standing.outcome, standing.attempts) == (Outcome.CORRECT, 2)
    assert (standing.hints, standing.solution_seen) == (1, True)


def test_correct_stays_correct_after_a_worse_answer(journal):
    course.check("99.slot", SLOT.solution)
    course.check("99.slot", lambda position, window: 0)
    assert journal.read()[0]["99.slot"].outcome is Outcome.CORRECT


def test_damaged_lines_are_skipped_counted_and_kept(journal, said):
    course.check("99.slot", SLOT.solution)
    damage = b'\xff\xfe not json\n[1, 2]\n{"exercise": "99.slot"}\n'
    with journal.path.open("ab") as file:
        file.write(damage)
    course.check("99.cache_bytes", 64)
    standings, note = journal.read()
    assert {id: s.outcome for id, s in standings.items()} == dict.fromkeys(
        ["99.slot", "99.cache_bytes"], Outcome.CORRECT
    )
    assert "3 lines" in note
    assert damage in journal.path.read_bytes()
    assert "3 lines" in said(course.progress, "08")


def test_a_line_torn_by_a_crash_does_not_swallow_the_next(journal):
    course.check("99.slot", SLOT.solution)
    with journal.path.open("ab") as file:
        file.write(b'{"exercise": "99.ca')
    course.check("99.cache_bytes", 64)
    assert journal.read()[0]["99.cache_bytes"].outcome is Outcome.CORRECT


def test_two_writers_keep_each_others_lines(journal):
    other = Journal(journal.path)
    for number in range(20):
        journal.add(f"99.a{number}", "correct")
        other.add(f"99.b{number}", "correct")
    assert len(journal.read()[0]) == 40
    assert all(json.loads(line) for line in journal.path.read_text().splitlines())


def test_a_home_that_cannot_be_written_stops_no_lesson(journal, said):
    journal.path.parent.parent.joinpath("home").write_text("a file where a folder should be")
    text = said(course.check, "99.slot", SLOT.solution)
    assert text.startswith("● 99.slot · correct")
    assert "could not be saved" in text
    assert "MISTRAL_EDU_HOME" in text
    assert "could not be read" in said(course.progress, "08")


def test_a_verdict_shows_wherever_in_a_cell_the_check_stands(journal, drawn):
    course.check("99.slot", lambda position, window: 0)
    course.check("99.slot", SLOT.solution)
    course.check("99.slot", ...)
    assert [verdict.outcome for verdict in drawn] == [
        Outcome.NOT_YET,
        Outcome.CORRECT,
        Outcome.NOT_ATTEMPTED,
    ]


def test_hints_come_one_after_another_and_by_number(journal, said):
    shown = [said(course.hint, "99.slot") for _ in range(4)]
    assert [text.split(": ")[1] for text in shown] == ["first", "second", "third", "third"]
    assert said(course.hint, "99.slot", 1) == "Hint 1 of 3: first"


def test_a_solution_is_shown_as_its_source(journal, said, drawn):
    course.solution("99.slot")
    assert "return position % window" in repr(drawn[0])
    assert "```python\ndef slot" in drawn[0]._repr_markdown_()


def test_an_unknown_id_names_the_near_ones(journal):
    with pytest.raises(registry.UnknownExercise, match=r"did you mean 99\.slot"):
        course.check("99.slto", 1)


def test_an_untouched_lesson_shows_empty_marks_and_the_unwritten_dots(journal, said):
    strip = [f"{number:02d}{'○' if number == 8 else '·'}" for number in range(18)]
    assert said(course.progress, "08").splitlines() == [
        "Lesson 08 · Rolling cache: 0 of 3 exercises correct",
        "  ○ 99.slot A toy · not attempted",
        "  ○ 99.cache_bytes A toy · not attempted",
        "  ○ 99.schedule A toy · not attempted",
        "Course: " + " ".join(strip),
        "○ not attempted   ◐ begun   ● correct   · not written yet",
    ]


def test_the_map_follows_the_journal(journal, said):
    course.check("99.slot", SLOT.solution)
    course.hint("99.cache_bytes")
    text = said(course.progress, "08")
    assert "1 of 3 exercises correct" in text
    assert "○ 99.cache_bytes A toy · not attempted (1 hint)" in text
    assert "08◐" in text
    course.check("99.cache_bytes", 64)
    course.check("99.schedule", SCHEDULE.solution)
    assert "08●" in said(course.progress, "08")
    assert "08 Rolling cache            ●●● 3 of 3 correct" in said(course.progress)


def test_the_drawing_says_in_words_what_it_shows(journal, drawn):
    course.check("99.slot", SLOT.solution)
    course.progress("08")
    drawing = drawn[-1]._repr_html_()
    assert 'role="img"' in drawing
    assert "lesson 07 not written yet, lesson 08 begun, lesson 09 not written yet" in drawing
    assert "· not written yet" in drawing  # The legend, for those who see.
    assert len(re.findall(r"<text ", drawing)) == 18
    assert drawing.count("stroke-dasharray") == 17


def test_a_lesson_that_does_not_exist_is_refused(journal):
    with pytest.raises(ValueError, match="'42'.*00 to 17"):
        course.progress("42")


def test_the_home_is_the_users_own_unless_one_is_named(monkeypatch):
    assert home() == Path(os.environ["MISTRAL_EDU_HOME"])
    monkeypatch.delenv("MISTRAL_EDU_HOME")
    assert home().name == "mistral_edu"
