"""The rules notice: a sound lesson passes all of them, and each damage is found by its own rule."""

import nbformat
import pytest
from lesson_rules import read
from nbformat.v4 import new_output
from output_rules import WIDGET_VIEW
from test_lint import RULES


def complaints(path) -> dict[str, list[str]]:
    found = {rule.__name__: rule(read(path)) for rule in RULES}
    return {name: problems for name, problems in found.items() if problems}


def code(notebook, start):
    return next(c for c in notebook.cells if c.cell_type == "code" and c.source.startswith(start))


def prose(notebook, start):
    return next(c for c in notebook.cells if c.source.startswith(start))


def replace(start, old, new):
    def damage(notebook):
        cell = prose(notebook, start)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return damage


def store(output):
    return lambda notebook: code(notebook, "1 + 1").outputs.append(output)


def swap_sections(notebook):
    first, second = prose(notebook, "## 3"), prose(notebook, "## 4")
    first.source, second.source = second.source, first.source


def drop_alt(notebook):
    code(notebook, "explore()").outputs[0].metadata = {}


def drop_text_form(notebook):
    code(notebook, "explore()").outputs[0].data["text/plain"] = "<Figure size 300x300>"


def drop_picture(notebook):
    code(notebook, "sweep()").outputs = []


def skip_a_count(notebook):
    code(notebook, "prediction").execution_count = 9


def save_widgets(notebook):
    notebook.metadata["widgets"] = {"state": {}}


def ignore_an_output(notebook):
    code(notebook, "1 + 1").metadata["tags"] = ["nbval-ignore-output"]


def fold_a_cell(notebook):
    code(notebook, "1 + 1").metadata["collapsed"] = True


def lengthen_cells(notebook):
    for cell in notebook.cells:
        if cell.source == "1 + 1":
            cell.source = "1 + 1\n" * 9


def swell(notebook):
    code(notebook, "sweep()").outputs[0].data["image/png"] = "A" * 400_000


def drop_cells(notebook):
    notebook.cells = notebook.cells[:-1]


ISSUE_12 = "https://github.com/a/b/issues/12"


def html(text):
    return store(new_output("display_data", {"text/html": text}))


DAMAGES = [
    ("the_card", replace("# 08", "Rolling", "Growing")),
    ("the_card", replace("# 08", "**Minutes:** 60", "**Minutes:** 600")),
    ("the_card", replace("# 08", "**Hardware:**", "Hardware:")),
    ("the_card", replace("1 + 1", "1 + 1", "setup(seed=1)")),
    ("the_sections_stand", swap_sections),
    ("the_sections_stand", replace("## 9", "Pitfalls", "Traps")),
    ("the_sections_hold", replace("prediction", "prediction", "guess")),
    ("the_sections_hold", replace("import mistral_edu", "assert", "print")),
    ("the_sections_hold", replace("someone", "someone/one#12", "an issue")),
    ("the_sections_hold", replace("### Glossary", "§3", "somewhere")),
    ("the_sections_hold", replace("progress", '"08"', "")),
    ("the_sections_hold", drop_picture),
    ("the_exercises", replace("### Exercise 08.one", "Write", "Try")),
    ("the_exercises", replace("def slot", "...", "return 0")),
    ("the_lesson_has", replace("## 2", "word " * 150, "word " * 1500)),
    ("the_lesson_has", lengthen_cells),
    ("the_lesson_has", swell),
    ("the_lesson_has", drop_cells),
    ("the_outputs", skip_a_count),
    ("the_outputs", store(new_output("error", ename="ValueError", evalue="", traceback=[]))),
    ("the_outputs", store(new_output("stream", name="stderr", text="careful"))),
    ("the_outputs", store(new_output("display_data", {WIDGET_VIEW: {}}))),
    ("the_file", save_widgets),
    ("the_file", fold_a_cell),
    ("the_file", replace("## 2", "word", "/home/someone/data")),
    ("the_file", store(new_output("stream", text="<object at 0x7f00aa11bb22>"))),
    ("the_pictures", drop_alt),
    ("the_pictures", drop_text_form),
    ("the_pictures", html('<img src="data:,">')),
    ("the_pictures", html("<svg width='3'></svg>")),
    ("the_pictures", replace("## 2", "word", "![](08_rolling_cache.ipynb)")),
    ("the_links", replace("# 08", "(08_rolling_cache.ipynb)", "(09_nowhere.ipynb)")),
    ("the_links", replace("# 08", "(08_rolling_cache.ipynb)", "()")),
    ("the_links", replace("# 08", "(08_rolling_cache.ipynb)", "(../../lesson.ipynb)")),
    ("the_links", replace("# 08", "(08_rolling_cache.ipynb)", "(#No-such-heading)")),
    ("the_links", replace("# 08", "[here](08_rolling_cache.ipynb)", "[here](https://arxiv)")),
    ("the_links", replace("# 08", "[here](08_rolling_cache.ipynb)", "[here](http://a.org/b)")),
    ("the_links", replace("# 08", "[here](08_rolling_cache.ipynb)", f"[a/b#13]({ISSUE_12})")),
    ("the_links", replace("# 08", "[here](08_rolling_cache.ipynb)", f"[a/c#12]({ISSUE_12})")),
    ("the_links", replace("# 08", "[here](08_rolling_cache.ipynb)", f"[#13]({ISSUE_12})")),
    ("the_links", replace("# 08", "[here](08_rolling_cache.ipynb)", f"[here]({ISSUE_12})")),
    ("nothing_forbidden", replace("1 + 1", "1 + 1", "interact(f)")),
    ("nothing_forbidden", replace("1 + 1", "1 + 1", "%time f()")),
    ("nothing_forbidden", replace("1 + 1", "1 + 1", "f();")),
    ("only_timings", ignore_an_output),
]


def test_a_sound_lesson_breaks_no_rule(sound_lesson):
    assert complaints(sound_lesson) == {}


@pytest.mark.parametrize(
    "link",
    [
        "[here](#9.-Pitfalls:-a-subtitle)",
        "[here](08_rolling_cache.ipynb#8.-Exercises:-a-subtitle)",
        "[paper](https://arxiv.org/abs/2310.06825)",
        f"[a/b#12]({ISSUE_12}), [#12]({ISSUE_12})",
        "`model[last](text)`",
    ],
)
def test_links_that_lead_somewhere_are_let_be(sound_lesson, link):
    notebook = nbformat.read(sound_lesson, as_version=4)
    replace("# 08", "[here](08_rolling_cache.ipynb)", link)(notebook)
    nbformat.write(notebook, sound_lesson)
    assert complaints(sound_lesson) == {}


@pytest.mark.parametrize(("rule", "damage"), DAMAGES)
def test_each_damage_is_found_by_its_own_rule(sound_lesson, rule, damage):
    notebook = nbformat.read(sound_lesson, as_version=4)
    damage(notebook)
    nbformat.write(notebook, sound_lesson)
    found = complaints(sound_lesson)
    assert any(name.startswith(rule) for name in found), found
