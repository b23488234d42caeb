"""The refresh tool stores what nbval and a reader need, and its check notices a change."""

import importlib.util
import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PATH = Path(__file__).parent.parent.parent / "tools" / "refresh_notebooks.py"
CELLS = [
    new_markdown_cell("# A title"),
    new_code_cell("import ipywidgets\nprint('one')\nprint('two')"),
    new_code_cell("ipywidgets.IntSlider(value=3)"),
    new_code_cell("import time\nprint(time.time())", metadata={"tags": ["timing"]}),
    new_code_cell("print(f'took {time.perf_counter():.3f} s')\n6 * 7"),
]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("refresh_notebooks", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def refreshed(tool, tmp_path_factory):
    """A notebook of five cells, run once."""
    path = tmp_path_factory.mktemp("lessons") / "lesson.ipynb"
    notebook = new_notebook(cells=CELLS, metadata={"widgets": {"state": {}}})
    notebook.cells[3].metadata["tags"] = ["timing", "nbval-ignore-output"]
    nbformat.write(notebook, path)
    assert tool.refresh(path, check=False)
    return path


def test_counts_run_from_one_and_outputs_are_stored(refreshed):
    code = [c for c in nbformat.read(refreshed, 4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert code[0].outputs[0].text == "one\ntwo\n"
    assert code[3].outputs[1].data["text/plain"] == "42"
    assert code[3].outputs[1].execution_count == 4


def test_nothing_of_widgets_or_of_the_machine_is_stored(refreshed):
    text = refreshed.read_text(encoding="utf-8")
    assert "widget-view" not in text
    notebook = json.loads(text)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert all(set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"])
    assert not list(refreshed.parent.glob("*.unfinished"))


def test_a_second_run_compares_equal(tool, refreshed):
    before = refreshed.read_bytes()
    assert tool.refresh(refreshed, check=True)
    assert refreshed.read_bytes() == before


def test_a_changed_output_is_noticed(tool, refreshed):
    stored, fresh = (nbformat.read(refreshed, as_version=4) for _ in range(2))
    assert tool.differences(stored, fresh) == []
    fresh.cells[4].outputs[1].data["text/plain"] = "43"
    (difference,) = tool.differences(stored, fresh)
    assert difference.startswith("cell 4:")


def test_measured_times_are_not_compared(tool, refreshed):
    stored, fresh = (nbformat.read(refreshed, as_version=4) for _ in range(2))
    fresh.cells[3].outputs[0].text = "yesterday"
    fresh.cells[4].outputs[0].text = "took 9.9 s\n"
    assert tool.differences(stored, fresh) == []


def test_a_failing_cell_leaves_the_file_alone(tool, tmp_path, capsys):
    path = tmp_path / "lesson.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    assert not tool.refresh(path, check=False)
    assert path.read_bytes() == before
    assert "ZeroDivisionError" in capsys.readouterr().err
