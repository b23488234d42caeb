"""Rules about what a lesson stores: outputs, pictures, tags, and what must not be there."""

import re

import nbformat
from lesson_rules import BANNED, MACHINE_PATH, TAGS, Notebook, html

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}", re.IGNORECASE)


def plain(output: dict) -> str:
    return output.get("text", "") + output.get("data", {}).get("text/plain", "")


def the_outputs_are_stored_in_order(lesson: Notebook) -> list[str]:
    code = lesson.of_kind("code")
    counts = [cell.execution_count for cell in code]
    problems = [] if counts == list(range(1, len(code) + 1)) else [f"execution counts are {counts}"]
    problems += [f"cell {k} is empty" for k, c in enumerate(lesson.cells) if not c.source.strip()]
    for position, output in lesson.outputs():
        if output.output_type == "error":
            problems.append(f"cell {position} stores an error: {output.ename}")
        if output.get("name") == "stderr":
            problems.append(f"cell {position} stores text written to stderr")
        if WIDGET_VIEW in output.get("data", {}):
            problems.append(f"cell {position} stores a widget view, dead without its state")
    return problems


def the_file_says_nothing_about_its_machine(lesson: Notebook) -> list[str]:
    metadata = nbformat.read(lesson.path, as_version=4).metadata
    problems = []
    if metadata.get("language_info") != {"name": "python"} or "widgets" in metadata:
        problems.append("metadata is not in the agreed form: run tools/refresh_notebooks.py")
    if any(set(cell.metadata) - {"tags"} for cell in lesson.cells):
        problems.append("cell metadata is not in the agreed form: run tools/refresh_notebooks.py")
    texts = [(k, cell.source) for k, cell in enumerate(lesson.cells)]
    texts += [(k, plain(output) + html(output)) for k, output in lesson.outputs()]
    for position, text in texts:
        if found := MACHINE_PATH.search(text):
            problems.append(f"cell {position} names a place on one machine: {found[0]}…")
    for position, output in lesson.outputs():
        if found := ADDRESS.search(plain(output) + html(output)):
            problems.append(f"cell {position} shows a memory address: {found[0]}")
    return problems


def the_pictures_have_words(lesson: Notebook) -> list[str]:
    problems = []
    for position, output in lesson.outputs():
        data, metadata = output.get("data", {}), output.get("metadata", {})
        if "image/png" in data or "image/jpeg" in data:
            kind = "image/png" if "image/png" in data else "image/jpeg"
            words = metadata.get(kind, {}).get("alt", "") or " ".join(image_words(html(output)))
            if len(words) < 20:
                problems.append(f"cell {position}: a picture without alternative text")
            if data.get("text/plain", "<").startswith("<"):
                problems.append(f"cell {position}: the picture's text form is not words")
        if not all(image_words(html(output))):
            problems.append(f"cell {position}: an <img> without alt, or an <svg> without a label")
    for position, cell in enumerate(lesson.cells):
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(", cell.source):
            problems.append(f"cell {position}: an image in markdown without alternative text")
    return problems


def image_words(text: str) -> list[str]:
    """The alternative text of every <img> and the label of every <svg>; empty where missing."""
    found = []
    for tag in re.findall(r"<(?:img|svg)\b[^>]*>", text):
        label = re.search(r'\b(?:alt|aria-label)="([^"]*)"', tag)
        found.append(label[1] if label else "")
    return found


def nothing_forbidden_is_called(lesson: Notebook) -> list[str]:
    return [
        f"cell {position} holds {name}"
        for position, cell in enumerate(lesson.cells)
        for pattern, name in BANNED.items()
        if cell.cell_type == "code" and re.search(pattern, cell.source)
    ]


def only_timings_go_unchecked(lesson: Notebook) -> list[str]:
    return [
        f"cell {position} has tags {sorted(tags)}; allowed together: {[sorted(t) for t in TAGS]}"
        for position, cell in enumerate(lesson.cells)
        if (tags := set(cell.metadata.get("tags", []))) not in TAGS
    ]
