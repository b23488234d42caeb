"""A small lesson that breaks no rule, for the tests of the rules to damage."""

import nbformat
import pytest
from lesson_rules import SECTIONS
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mistral_edu.course import registry
from mistral_edu.course.checking import Claim, by_cases, by_claims
from mistral_edu.course.exercise import Exercise, Mutant

CARD = """# 08 · Rolling cache

- **You will have built:** a ring.
- **Before this:** [here](08_rolling_cache.ipynb)
- **Minutes:** 60
- **Hardware:** any laptop"""
PIXEL = {"image/png": "AAAA", "text/plain": "one dark square"}


def slot(position, window):
    return position % window


def toy_exercise(word: str, open_ended: bool = False) -> Exercise:
    mutants = (
        Mutant(lambda position, window: position, "it never wraps", says="never wraps"),
        Mutant(lambda position, window: 0, "one slot for all", says="one slot"),
    )
    claims = by_claims([Claim("token 5 of 4 is in slot 1", lambda answer: answer(5, 4) == 1)])
    return Exercise(
        id=f"08.{word}",
        title="Which slot?",
        task="Write `slot`.",
        difficulty=1,
        minutes=5,
        stub="def slot(position, window):\n    ...",
        check=claims if open_ended else by_cases([(3, 4), (9, 4)]),
        hints=("wrap", "remainder", "%"),
        solution=slot,
        mutants=mutants,
        open_ended=open_ended,
    )


TOYS = (toy_exercise("one"), toy_exercise("two"), toy_exercise("three", open_ended=True))


def picture_cell(source: str):
    words = {"image/png": {"alt": "one dark square on a white ground"}}
    return new_code_cell(source, outputs=[new_output("display_data", PIXEL, metadata=words)])


def section_cells(name: str) -> list:
    """What each section cannot do without."""
    task_cells = [
        cell
        for e in TOYS
        for cell in (new_markdown_cell(f"{e.heading}\n\n{e.task}"), new_code_cell(e.cell))
    ]
    special = {
        "Predict": [new_code_cell("prediction = ...")],
        "See it": [picture_cell("explore()")],
        "Build it right": [new_code_cell("import mistral_edu\nassert mistral_edu")],
        "Read the module": [new_code_cell("show_source(setup)")],
        "Experiment": [picture_cell("sweep()"), new_markdown_cell("Was your prediction right?")],
        "Exercises": task_cells,
        "Pitfalls": [new_markdown_cell("someone/one#12 and other/two #3")],
        "Recap": [new_markdown_cell("### Glossary\n### References\nA paper, §3\n### Next")],
        "Your progress": [new_code_cell('progress("08")')],
    }
    return special.get(name, [new_code_cell("1 + 1")])


@pytest.fixture
def sound_lesson(tmp_path, monkeypatch):
    """The path of a lesson 08 that follows every rule, with three toy exercises."""
    monkeypatch.setattr(registry, "exercises", lambda lesson: TOYS)
    cells = [new_markdown_cell(CARD), new_code_cell("setup(seed=0)")]
    for number, name in enumerate(SECTIONS, start=1):
        cells.append(new_markdown_cell(f"## {number}. {name}: a subtitle\n\n" + "word " * 150))
        cells += section_cells(name)
    cells += [new_code_cell("1 + 1") for _ in range(40 - len(cells))]
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    path = tmp_path / "08_rolling_cache.ipynb"
    nbformat.write(notebook, path)
    return path
