"""`mistral-edu lab`: open JupyterLab on the lessons.

Lesson: 00_map_and_toolbox.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mistral_edu import paths
from mistral_edu.commands import arguments

HELP = "open JupyterLab on lesson 00"
LESSONS, SOURCE = "notebooks", "mistral_edu"
FIRST_LESSON = "00_map_and_toolbox.ipynb"
COURSE_FOLDER = "mistral_edu_course"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which lessons to serve, and where."""
    parser.add_argument("--folder", type=Path, help="keep your own copy of the lessons here")
    parser.add_argument(
        "--port", type=arguments.port, help="the port to serve on (the first free from 8888)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def run(options: argparse.Namespace) -> int:
    """Become JupyterLab; return its exit status where a process cannot."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise ImportError("JupyterLab is not installed here; `pip install jupyterlab` adds it")
    folder = course_folder(options.folder)
    show = has_display() and not options.no_browser
    command = lab_command(folder, browser=show, port=options.port)
    where = "is opening in your browser" if show else "is starting; open the address it prints"
    print(f"JupyterLab {where}. Ctrl-C stops it. Lessons: {folder / LESSONS}", flush=True)
    if os.name != "nt":
        os.execv(command[0], command)  # From here on this process is JupyterLab, signals and all.
    return subprocess.call(command)


def course_folder(wanted: Path | None) -> Path:
    """The folder to serve: the clone itself, or a copy that is the learner's to change.

    It holds `notebooks/` and, beside it, `mistral_edu/`, because the lessons link to the source.
    A copy is made in `wanted` (from an installed wheel: in ./mistral_edu_course when None is
    wanted). A lesson that is there already is never overwritten; the copied source is only for
    reading, so it is brought up to date.

    Returns:
        An absolute path that holds notebooks/00_map_and_toolbox.ipynb.
    Raises:
        FileNotFoundError: the lessons themselves are missing.
        OSError: there can be no such folder.
    """
    lessons, clone = paths.notebooks_dir(), paths.clone_root()
    if not (lessons / FIRST_LESSON).is_file():
        raise FileNotFoundError(
            f"{lessons} holds no {FIRST_LESSON}; clone or install the course again"
        )
    if wanted is None and clone is not None:
        return clone
    target = (wanted or Path(COURSE_FOLDER)).resolve()
    try:
        (target / LESSONS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{target} cannot hold the lessons ({error.strerror}): choose another folder"
        ) from error
    for lesson in sorted(lessons.glob("*.ipynb")):
        if not (target / LESSONS / lesson.name).exists():
            shutil.copyfile(lesson, target / LESSONS / lesson.name)
    for module in paths.PACKAGE.rglob("*.py"):
        copy = target / SOURCE / module.relative_to(paths.PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, copy)
    return target


def lab_command(folder: Path, *, browser: bool, port: int | None = None) -> list[str]:
    """The command line that serves `folder` with lesson 00 in front, asking nothing.

    Args:
        folder: the absolute path of the course (see `course_folder`).
        browser: whether JupyterLab opens a browser itself.
        port: the port to serve on; None takes the first free one from 8888.

    >>> "--no-browser" in lab_command(Path("lessons"), browser=False)
    True
    """
    command = [sys.executable, "-m", "jupyterlab", "-y", "--log-level=WARN"]
    command += [f"--ServerApp.root_dir={folder}"]
    command += [f"--LabApp.default_url=/lab/tree/{LESSONS}/{FIRST_LESSON}"]
    command += ["--LabApp.extension_manager=readonly"]  # Otherwise it asks a package index.
    if not browser:
        command += ["--no-browser"]
    if port is not None:
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command += ["--allow-root"]
    return command


def has_display() -> bool:
    """Whether a browser window could appear: always on a desktop system, on Linux with a screen.

    >>> has_display() in (True, False)
    True
    """
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
