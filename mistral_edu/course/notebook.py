"""What a lesson's cells need around the lesson itself: one set-up, and the library's own source.

`setup` makes a notebook give the same numbers every time. `show_source` shows a module as it is
now, not as it was when the lesson was written.
"""

import ast
import inspect
import random
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import mistral_edu


@dataclass(frozen=True, repr=False)
class Text:
    """Text that draws itself as markdown where that is possible, and as itself elsewhere.

    Args:
        plain: the text.
        markdown: what JupyterLab renders instead; by default the same text.

    >>> Text("plain words")
    plain words
    """

    plain: str
    markdown: str = ""

    def __repr__(self) -> str:
        return self.plain

    def _repr_markdown_(self) -> str:
        return self.markdown or self.plain


def setup(seed: int = 0, threads: int | None = 1) -> None:
    """Make this notebook repeatable; the first thing every lesson does.

    Args:
        seed: where random numbers start, in Python and in torch.
        threads: CPU threads for torch. Sums added up by one thread and by two differ in their
            last digits, so lessons use one, which is also fast for models this small; None leaves
            torch its own choice.

    Prints one line. Also asks torch for repeatable algorithms and prints numbers with four digits.

    >>> setup(seed=0)
    Ready: seed 0, 1 CPU thread. Your progress stays on this machine.
    """
    random.seed(seed)
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_printoptions(precision=4, sci_mode=False, linewidth=100)
    used = torch.get_num_threads()
    crew = "1 CPU thread" if used == 1 else f"{used} CPU threads"
    print(f"Ready: seed {seed}, {crew}. Your progress stays on this machine.")


def source_of(subject: Any, docstring: bool = True) -> str:
    """The source of a function, method, class or module, from its file.

    Args:
        subject: the object.
        docstring: whether docstrings stay in; without them the code is all there is to read.

    Returns:
        The source, not indented, without a line break at its end.

    >>> print(source_of(Text.__repr__))
    def __repr__(self) -> str:
        return self.plain
    """
    subject = subject.fget if isinstance(subject, property) else subject
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(subject))).rstrip()
    return source if docstring else _without_docstrings(source)


def show_source(*subjects: Any, docstring: bool = True) -> Text:
    """Show the live source of parts of the library, highlighted.

    Args:
        subjects: functions, methods, classes or modules of `mistral_edu`.
        docstring: whether docstrings are shown too.

    Returns:
        Text that draws itself as highlighted code, each piece under the name of its file.

    >>> print(show_source(Text.__repr__))
    # mistral_edu/course/notebook.py
    def __repr__(self) -> str:
        return self.plain
    """
    pieces = [(_file_of(subject), source_of(subject, docstring)) for subject in subjects]
    plain = "\n\n".join(f"# {file}\n{source}" for file, source in pieces)
    blocks = [f"`{file}`\n\n```python\n{source}\n```" for file, source in pieces]
    return Text(plain, "\n\n".join(blocks))


def _file_of(subject: Any) -> str:
    """The subject's file as seen from the folder that holds the package."""
    subject = subject.fget if isinstance(subject, property) else subject
    path = Path(inspect.getsourcefile(inspect.unwrap(subject)) or "").resolve()
    root = Path(mistral_edu.__file__).resolve().parent.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _without_docstrings(source: str) -> str:
    """Cut out the lines of every docstring, leaving the rest as it was written."""
    lines = source.splitlines()
    dropped: set[int] = set()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and ast.get_docstring(node) is not None and len(node.body) > 1:
            first, end = node.body[0].lineno - 1, node.body[0].end_lineno or 0
            blank_follows = end < len(lines) and not lines[end].strip()
            dropped.update(range(first, end + blank_follows))
    return "\n".join(line for k, line in enumerate(lines) if k not in dropped).strip()
