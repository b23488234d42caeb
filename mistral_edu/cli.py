"""The `mistral-edu` command: look at the machine, let a model write, open the lessons.

    mistral-edu doctor
    mistral-edu generate "In the valley" --model tiny
    mistral-edu lab

Every mistake of the person typing ends in one clear line and exit status 2.
Lesson: 00_map_and_toolbox.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mistral_edu import paths

FIRST_LESSON = "00_map_and_toolbox.ipynb"
COURSE_FOLDER = "mistral_edu_course"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 doctor found a fault, 2 a mistake.

    Args:
        arguments: the words after `mistral-edu`; None takes those of this process.

    >>> main(["generate", "Once", "--temperature", "-1"])
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except BrokenPipeError:  # `mistral-edu generate … | head` has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print()
        return 130
    except (ValueError, OSError, ImportError, RuntimeError) as mistake:
        print(f"mistral-edu: {mistake}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help tells more)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mistral-edu", description="Mistral-7B, built and taken apart.")
    commands = parser.add_subparsers(metavar="command", required=True)
    _add_doctor(commands)
    _add_generate(commands)
    _add_lab(commands)
    return parser


# ── doctor ──────────────────────────────────────────────────────────────────────────────────────


def _add_doctor(commands: "argparse._SubParsersAction[_Parser]") -> None:
    text = "what this machine is, and what of the course it can run"
    commands.add_parser("doctor", help=text, description=text).set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from mistral_edu import doctor

    text, problems = doctor.report()
    print(text)
    return 1 if problems else 0


# ── generate ────────────────────────────────────────────────────────────────────────────────────


def _add_generate(commands: "argparse._SubParsersAction[_Parser]") -> None:
    text = "continue a prompt, printing each piece as the model chooses it"
    command = commands.add_parser("generate", help=text, description=text)
    command.add_argument("prompt", help="the text to continue")
    command.add_argument(
        "--model", default="tiny", help='"tiny", a folder, or a hub id (%(default)s)'
    )
    command.add_argument(
        "--max-new-tokens", type=_count, default=120, metavar="N", help="(%(default)s)"
    )
    command.add_argument(
        "--temperature",
        type=_temperature,
        default=0.8,
        help="0 always takes the likeliest (%(default)s)",
    )
    command.add_argument(
        "--top-p",
        type=_probability,
        default=0.95,
        help="draw from this much probability (%(default)s)",
    )
    command.add_argument("--seed", type=int, default=0, help="same seed, same text (%(default)s)")
    command.set_defaults(run=_generate)


def _generate(options: argparse.Namespace) -> int:
    import torch

    from mistral_edu import load

    model, tokenizer = load(options.model)
    prompt = tokenizer.encode(options.prompt)
    drawing = {"temperature": options.temperature, "top_p": options.top_p, "seed": options.seed}
    tokens = model.stream(
        torch.tensor([prompt], device=model.device),
        max_new_tokens=options.max_new_tokens,
        do_sample=options.temperature > 0,
        **(drawing if options.temperature > 0 else {}),
    )
    if hasattr(sys.stdout, "reconfigure"):  # A terminal that lacks a letter shows "?" for it.
        sys.stdout.reconfigure(errors="replace")
    # The decoder reads the prompt too: it decides which piece loses its leading space.
    decoder = tokenizer.decoder()
    print("".join(decoder.add(token) for token in prompt), end="", flush=True)
    for token in tokens:
        print(decoder.add(int(token[0])), end="", flush=True)
    print(decoder.finish())
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _temperature(text: str) -> float:
    return _number(text, 0.0, float("inf"), "is not a number from 0 up")


def _probability(text: str) -> float:
    return _number(text, 1e-9, 1.0, "is not a probability above 0 and up to 1")


def _number(text: str, least: float, most: float, complaint: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} {complaint}")
    return value


# ── lab ─────────────────────────────────────────────────────────────────────────────────────────


def _add_lab(commands: "argparse._SubParsersAction[_Parser]") -> None:
    text = "open JupyterLab on lesson 00"
    command = commands.add_parser("lab", help=text, description=text)
    command.add_argument("--folder", type=Path, help="keep your own copy of the lessons here")
    command.add_argument(
        "--port", type=_count, help="the port to serve on (the first free from 8888)"
    )
    command.add_argument("--no-browser", action="store_true", help="only print the address")
    command.set_defaults(run=_lab)


def _lab(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("jupyterlab") is None:
        raise ImportError("JupyterLab is not installed here; `pip install jupyterlab` adds it")
    folder = lessons_folder(options.folder)
    show = has_display() and not options.no_browser
    command = lab_command(folder, browser=show, port=options.port)
    where = "is opening in your browser" if show else "is starting; open the address it prints"
    print(f"JupyterLab {where}. Ctrl-C stops it. Lessons: {folder}", flush=True)
    if os.name != "nt":
        os.execv(command[0], command)  # From here on this process is JupyterLab, signals and all.
    return subprocess.call(command)


def lessons_folder(wanted: Path | None) -> Path:
    """The folder to open: the clone's own lessons, or a copy that is the learner's to change.

    Lessons are copied to `wanted` (from an installed wheel: to ./mistral_edu_course when None is
    wanted) unless a file of that name is there already. Nothing is ever overwritten.

    Returns:
        An absolute path that holds lesson 00.
    Raises:
        FileNotFoundError: the lessons themselves are missing.
    """
    source = paths.notebooks_dir()
    if not (source / FIRST_LESSON).is_file():
        raise FileNotFoundError(
            f"{source} holds no {FIRST_LESSON}; clone or install the course again"
        )
    if wanted is None and paths.clone_root() is not None:
        return source
    target = (wanted or Path(COURSE_FOLDER)).resolve()
    target.mkdir(parents=True, exist_ok=True)
    for lesson in sorted(source.glob("*.ipynb")):
        if not (target / lesson.name).exists():
            shutil.copyfile(lesson, target / lesson.name)
    return target


def lab_command(folder: Path, *, browser: bool, port: int | None = None) -> list[str]:
    """The command line that serves `folder` with lesson 00 in front, asking nothing.

    Args:
        folder: the absolute path of the lessons.
        browser: whether JupyterLab opens a browser itself.
        port: the port to serve on; None takes the first free one from 8888.

    >>> "--no-browser" in lab_command(Path("lessons"), browser=False)
    True
    """
    command = [sys.executable, "-m", "jupyterlab", "-y", "--log-level=WARN"]
    command += [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{FIRST_LESSON}"]
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
