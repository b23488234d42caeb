"""A set-up that makes numbers repeat, and sources that are the living ones."""

import random
from pathlib import Path

import pytest
import torch

from mistral_edu import sliding_window
from mistral_edu.course import setup, show_source
from mistral_edu.course.notebook import Text, source_of


@pytest.fixture(autouse=True)
def torch_as_it_was():
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
    torch.set_printoptions(profile="default")


def test_the_same_seed_gives_the_same_numbers():
    setup(seed=5)
    first = torch.rand(3), random.random()
    setup(seed=5)
    again = torch.rand(3), random.random()
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]


def test_setup_says_what_it_did_in_one_line(capsys):
    setup(seed=7)
    assert capsys.readouterr().out.count("\n") == 1
    assert torch.get_num_threads() == 1
    setup(seed=7, threads=2)
    assert "seed 7, 2 CPU threads" in capsys.readouterr().out


def test_the_source_shown_is_the_one_in_the_file():
    shown = repr(show_source(sliding_window.visible))
    assert shown.startswith("# mistral_edu/sliding_window.py\n")
    body = shown.split("\n", 1)[1]
    assert body in Path(sliding_window.__file__).read_text(encoding="utf-8")


def test_the_source_is_drawn_as_a_highlighted_block():
    drawn = show_source(Text.__repr__)._repr_markdown_()
    assert drawn.startswith("`mistral_edu/course/notebook.py`\n\n```python\ndef __repr__")
    assert drawn.endswith("\n```")


def test_several_subjects_stand_one_after_another():
    shown = repr(show_source(Text.__repr__, Text._repr_markdown_))
    assert shown.count("# mistral_edu/course/notebook.py") == 2


def test_docstrings_can_be_left_out():
    with_words, without = source_of(Text), source_of(Text, docstring=False)
    assert "Args:" in with_words
    assert "Args:" not in without
    assert "def _repr_markdown_" in without
    compile(without, "source", "exec")


def only_words():
    """All there is."""


def test_a_docstring_that_is_the_whole_body_stays():
    assert "All there is." in source_of(only_words, docstring=False)


def test_a_module_without_docstrings_still_runs():
    compile(source_of(sliding_window, docstring=False), "source", "exec")
