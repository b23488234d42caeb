"""Run the lessons in fresh kernels and store their outputs, in one agreed form.

    python tools/refresh_notebooks.py                                   # every lesson
    python tools/refresh_notebooks.py notebooks/08_rolling_cache.ipynb  # this one
    python tools/refresh_notebooks.py --check                           # change nothing, compare

The agreed form: cells counted 1..n, ids by position, no widget state and no widget views (a stored
view without its state shows an error instead of the picture), no execution times, and of the
language only its name, because the rest tells one machine from another. A file is written under
another name and then renamed, so that an interrupted run leaves the old one.
"""

import argparse
import configparser
import difflib
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

ROOT = Path(__file__).resolve().parent.parent
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# One thread and no accelerator: the last digits of a sum depend on both.
STEADY = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONHASHSEED": "0",
    "HF_HUB_OFFLINE": "1",
}


def execute(notebook, folder):
    """Run every cell in a fresh kernel started in `folder`; outputs land in `notebook`."""
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        coalesce_streams=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()


def tidy(notebook):
    """Bring an executed notebook into the agreed form, in place."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    count = 0
    for position, cell in enumerate(notebook.cells):
        cell.id = f"cell-{position:02d}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = [tidy_output(output, count) for output in cell.outputs]


def tidy_output(output, count):
    """One output without its widget view, under its cell's count."""
    if "data" in output:
        output.data.pop(WIDGET_VIEW, None)
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def readable(cell, sanitizers):
    """What a comparison of two runs looks at: every output but pixels and measured times."""
    if "nbval-ignore-output" in cell.metadata.get("tags", []):
        return ""
    parts = []
    for output in cell.get("outputs", []):
        data = {kind: text for kind, text in output.get("data", {}).items() if "image/" not in kind}
        parts.append(output.get("text", "") + json.dumps(data, ensure_ascii=False, sort_keys=True))
    text = "\n".join(parts)
    for pattern, replacement in sanitizers:
        text = pattern.sub(replacement, text)
    return text


def load_sanitizers():
    """The replacements nbval makes too, from the one file that lists them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "tests" / "nbval_sanitize.cfg", encoding="utf-8")
    sections = [config[name] for name in config.sections()]
    return [(re.compile(section["regex"]), section["replace"]) for section in sections]


def differences(stored, fresh):
    """One text per cell whose outputs differ between the stored and the fresh run."""
    sanitizers = load_sanitizers()
    found = []
    for position, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True)):
        before, after = readable(old, sanitizers), readable(new, sanitizers)
        if before != after:
            lines = [text.replace("\\n", "\n").splitlines() for text in (before, after)]
            shown = difflib.unified_diff(*lines, "stored", "fresh", lineterm="", n=1)
            found.append("\n".join([f"cell {position}:", *list(shown)[:20]]))
    return found


def write(notebook, path):
    """Write the notebook beside its place, then rename it into place."""
    unfinished = path.with_name(path.name + ".unfinished")
    nbformat.write(notebook, unfinished)
    unfinished.replace(path)


def refresh(path, check):
    """Run one lesson; store it, or with `check` compare it. Return whether all is well."""
    stored = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    try:
        execute(fresh, path.parent)
    except (CellExecutionError, CellTimeoutError) as error:
        print(f"{path.name}: stopped\n{error}", file=sys.stderr)
        return False
    tidy(fresh)
    print(f"{path.name}: {time.perf_counter() - start:.1f} s", flush=True)
    if not check:
        write(fresh, path)
        return True
    found = differences(stored, fresh)
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return not found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="by default every lesson")
    parser.add_argument("--check", action="store_true", help="compare and change nothing")
    chosen = parser.parse_args()
    os.environ.update(STEADY)
    paths = chosen.notebooks or sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        parser.error(f"no such notebook: {', '.join(missing)}")
    good = [refresh(path.resolve(), chosen.check) for path in paths]
    if not all(good):
        print(f"{good.count(False)} of {len(good)} lessons failed", file=sys.stderr)
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
