"""The links of a lesson: files that are there, headings that exist, issues that are the named ones.

Nothing is fetched, so the rule holds offline. An address is only held against the words it stands
under: `[owner/name#12](…)` must lead to issue 12 of owner/name.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from lesson_rules import Notebook, without_fences

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]*)[^)]*\)")
ISSUE = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)/(?:issues|pull)/(\d+)")
ADDRESS = re.compile(r"https://[\w-]+(?:\.[\w-]+)+(?:/\S*)?")


def the_links_lead_somewhere(lesson: Notebook) -> list[str]:
    problems = []
    for position, words, target in links_of(lesson):
        trouble = in_an_address(words, target) if "://" in target else in_a_file(lesson, target)
        if trouble:
            problems.append(f"cell {position}: [{words}]({target}) {trouble}")
    return problems


def links_of(lesson: Notebook) -> Iterator[tuple[int, str, str]]:
    """(cell, words, target) of every link in the prose; inline code may hold brackets, too."""
    for position, cell in enumerate(lesson.cells):
        if cell.cell_type == "markdown":
            prose = re.sub(r"`[^`\n]*`", "code", without_fences(cell.source))
            for words, target in LINK.findall(prose):
                yield position, words, target


def in_an_address(words: str, target: str) -> str:
    """What is wrong with an address, or an empty string."""
    if not ADDRESS.fullmatch(target):
        return "is not a whole https address"
    issue = ISSUE.fullmatch(target)
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)?#(\d+)", words)
    if bool(issue) != bool(named):
        return "must be an issue under its name, owner/name#12"
    if issue and named and (named[1] not in (None, issue[1]) or named[2] != issue[2]):
        return "leads to another issue than the one it names"
    return ""


def in_a_file(lesson: Notebook, target: str) -> str:
    """What is wrong with a link inside the repository, or an empty string."""
    name, _, heading = target.partition("#")
    path = (lesson.path.parent / name).resolve() if name else lesson.path.resolve()
    if not path.is_relative_to(lesson.path.parent.parent.resolve()):
        return "leaves the repository"
    if not target or not path.is_file():
        return "leads nowhere"
    if heading and heading not in headings_of(path):
        return "names a heading that is not there"
    return ""


def headings_of(path: Path) -> set[str]:
    """The anchors JupyterLab makes of a lesson's headings: spaces become hyphens."""
    cells = nbformat.read(path, as_version=4).cells if path.suffix == ".ipynb" else []
    prose = "\n".join(without_fences(c.source) for c in cells if c.cell_type == "markdown")
    return {text.strip().replace(" ", "-") for text in re.findall(r"(?m)^#+ (.*)$", prose)}
