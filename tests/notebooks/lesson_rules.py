"""What every lesson must look like: each rule reads one lesson and returns its complaints.

The rules follow the anatomy of a lesson: card, eleven numbered sections, exercises that match
their objects word for word, stored outputs that a reader without a kernel can use.
"""

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

from mistral_edu.course import registry

SECTIONS = (
    "Predict",
    "What goes wrong",
    "Build it small",
    "See it",
    "Build it right",
    "Read the module",
    "Experiment",
    "Exercises",
    "Pitfalls",
    "Recap",
    "Your progress",
)
CARD = ("You will have built", "Before this", "Minutes", "Hardware")
TAGS = ({"timing", "nbval-ignore-output"}, {"gpu", "nbval-skip"}, {"exercise"}, set())
ISSUE = re.compile(r"[\w.-]+/[\w.-]+(?:`|\*)* ?#\d+")
MACHINE_PATH = re.compile(
    r"(?<![\w.:/~-])/(?:home|Users|root|tmp|work|opt|usr|var|mnt|etc)/\w|\b[A-Z]:\\\w"
)
BANNED = {
    r"\bOutput\(|\binteract\(|\binteractive\(|\binteractive_output\(": "an Output-based widget",
    r"\bclear_output\b": "clear_output",
    r"(?m)^\s*[%!]": "a magic or a shell command",
    r"(?m);\s*$": "a trailing semicolon",
}


@dataclass(frozen=True)
class Notebook:
    """A lesson's file, cut into its sections."""

    path: Path
    cells: list

    @property
    def number(self) -> str:
        return self.path.name[:2]

    def of_kind(self, kind: str) -> list:
        return [cell for cell in self.cells if cell.cell_type == kind]

    def outputs(self) -> Iterator[tuple[int, dict]]:
        for position, cell in enumerate(self.cells):
            for output in cell.get("outputs", []):
                yield position, output

    def section(self, name: str) -> list:
        """The cells from the section's heading up to the next one."""
        inside, found = False, []
        for cell in self.cells:
            if cell.cell_type == "markdown" and cell.source.startswith("## "):
                inside = section_name(cell.source.splitlines()[0]) == name
            if inside:
                found.append(cell)
        return found

    def text(self, name: str, kind: str) -> str:
        return "\n\n".join(cell.source for cell in self.section(name) if cell.cell_type == kind)


def read(path: Path) -> Notebook:
    return Notebook(path, nbformat.read(path, as_version=4).cells)


def html(output: dict) -> str:
    return output.get("data", {}).get("text/html", "")


def is_picture(output: dict) -> bool:
    data = output.get("data", {})
    return "image/png" in data or "image/jpeg" in data or "<img" in html(output)


def section_name(line: str) -> str:
    """`## 3. Build it small: a ring of four` is the section `Build it small`."""
    return re.sub(r"^## \d+\. ", "", line).split(":")[0].strip()


def without_fences(text: str) -> str:
    return re.sub(r"(?ms)^```.*?^```", "", text)


def words(cell: dict) -> int:
    text = re.sub(r"\]\([^)]*\)|<[^>]*>|\$\$?[^$]*\$\$?", " ", without_fences(cell.source))
    return len(re.findall(r"\S*\w\S*", text))


def the_card_opens_the_lesson(lesson: Notebook) -> list[str]:
    card, title = lesson.cells[0], registry.LESSONS[lesson.number].title
    problems = []
    first = f"# {lesson.number} · {title}"
    if card.cell_type != "markdown" or card.source.splitlines()[0] != first:
        problems.append(f"cell 0 must begin with {first!r}")
    fields = dict(re.findall(r"(?m)^- \*\*(.+?):\*\* (\S.*)$", card.source))
    problems += [f"the card lacks '- **{name}:** …'" for name in CARD if name not in fields]
    minutes = re.match(r"\d+", fields.get("Minutes", ""))
    if minutes and not 45 <= int(minutes[0]) <= 90:
        problems.append(f"{minutes[0]} minutes; a lesson takes 45 to 90")
    setups = [c for c in lesson.of_kind("code") if re.search(r"(?m)^setup\(", c.source)]
    if setups != lesson.of_kind("code")[:1]:
        problems.append("setup(…) must be called in the first code cell and nowhere else")
    return problems


def the_sections_stand_in_order(lesson: Notebook) -> list[str]:
    expected = [f"## {number}. {name}" for number, name in enumerate(SECTIONS, start=1)]
    found = []
    for cell in lesson.of_kind("markdown")[1:]:
        headings = re.findall(r"(?m)^##? .*$", without_fences(cell.source))
        if headings and not cell.source.startswith(headings[0]):
            return [f"{headings[0]!r} must begin its cell"]
        found += [heading.split(":")[0].strip() for heading in headings]
    return [] if found == expected else [f"sections are {found}, expected {expected}"]


def the_sections_hold_what_they_promise(lesson: Notebook) -> list[str]:
    needed = [
        ("Predict", "code", r"(?m)^prediction = "),
        ("Build it right", "code", r"\bassert\b|assert_close|assert_equal"),
        ("Build it right", "code", r"mistral_edu"),
        ("Read the module", "code", r"\bshow_source\("),
        ("Experiment", "markdown", r"(?i)\bpredict"),
        ("Recap", "markdown", r"(?ms)^### Glossary.*^### References.*^### Next"),
        ("Recap", "markdown", r"(?i)§|\bsection \d"),
        ("Your progress", "code", rf"\bprogress\(\"{lesson.number}\"\)"),
    ]
    problems = [
        f"section '{name}': no {kind} matches {pattern}"
        for name, kind, pattern in needed
        if not re.search(pattern, lesson.text(name, kind))
    ]
    for name in ("See it", "Experiment"):
        outputs = [o for cell in lesson.section(name) for o in cell.get("outputs", [])]
        if not any(is_picture(output) for output in outputs):
            problems.append(f"section '{name}' stores no picture")
    if len(set(ISSUE.findall(lesson.text("Pitfalls", "markdown")))) < 2:
        problems.append("section 'Pitfalls' names fewer than two issues (owner/repo#123)")
    return problems


def the_exercises_are_the_registered_ones(lesson: Notebook) -> list[str]:
    exercises = registry.exercises(lesson.number)
    problems = []
    if len(exercises) < 3:
        problems.append(f"{len(exercises)} exercises; a lesson has at least three")
    if [e.open_ended for e in exercises] != [False] * (len(exercises) - 1) + [True]:
        problems.append("the last exercise, and only it, must be open_ended")
    cells = lesson.section("Exercises")
    expected = [text for e in exercises for text in (f"{e.heading}\n\n{e.task.strip()}", e.cell)]
    found = [
        cell.source.strip()
        for cell in cells
        if cell.source.startswith("### Exercise ")
        or (cell.cell_type == "code" and "check(" in cell.source)
    ]
    for here, there in zip(found, expected, strict=False):
        if here != there:
            problems.append(f"this cell\n{here}\nshould be\n{there}")
    if len(found) != len(expected):
        problems.append(f"{len(found)} cells with a task or a stub, not {len(expected)}")
    return problems


def the_lesson_has_the_right_size(lesson: Notebook) -> list[str]:
    code = [c.source for c in lesson.of_kind("code")]
    lines = statistics.median(sum(map(bool, map(str.strip, text.splitlines()))) for text in code)
    total = sum(map(words, lesson.of_kind("markdown")))
    size = lesson.path.stat().st_size
    rules = {
        f"{len(lesson.cells)} cells, not 40 to 70": 40 <= len(lesson.cells) <= 70,
        f"median code cell of {lines} lines, more than 6": lines <= 6,
        f"{total} words, not 1,500 to 2,500": 1500 <= total <= 2500,
        f"{size} bytes, not under 400 KB": size < 400_000,
    }
    return [problem for problem, holds in rules.items() if not holds]
