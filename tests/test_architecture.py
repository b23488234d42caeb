"""The shape of the library: arrows point one way, and importing it stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import mistral_edu

PACKAGE = Path(mistral_edu.__file__).parent
OUTER = {"viz", "course", "bench", "cli", "commands", "doctor"}
DOWNLOADS = {"hub.py": "huggingface_hub"}  # the one file that may, when it is asked to
HEAVY = ("matplotlib", "ipywidgets", "huggingface_hub", "IPython", "transformers")


def imports_of(path):
    """Every module a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_model_imports_nothing_that_draws_teaches_or_talks():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part in OUTER or part in {"__main__", "training", "experiments"}:
            continue
        for name in imports_of(path):
            first, _, rest = name.partition(".")
            if DOWNLOADS.get(path.name) == first:
                continue
            if first in HEAVY or (first == "mistral_edu" and rest.split(".")[0] in OUTER):
                wrong.append(f"{path.name} imports {name}")
    assert wrong == []


def test_importing_the_package_loads_no_plotting_notebook_or_download_code():
    found = f"[name for name in {HEAVY!r} if name in sys.modules]"
    program = f"import sys; from mistral_edu import *; print({found})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_loading_a_model_does_not_wait_for_the_compiler():
    program = (
        "import sys, mistral_edu; mistral_edu.load('tiny'); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_files_and_functions_stay_short():
    long = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 250:
            long.append(f"{path.name}: {text.count(chr(10))} lines")
    assert long == []
