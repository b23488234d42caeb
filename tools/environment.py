"""Make `.venv`, the course's own Python environment, or leave it alone when it is already right.

    python3 tools/environment.py

It runs on a bare Python with nothing installed. An environment counts as right only when its own
interpreter starts and repeats what the stamp says, and the stamp is written after the last install
step: this folder, this Python, these dependencies. Anything else (an interrupted install, an
interpreter that has been removed, a moved clone, changed versions) is cleared and built again.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
ROOT = Path(__file__).resolve().parent.parent


class EnvironmentProblem(Exception):
    """Something the person at the keyboard can put right; the message says how."""


def main(words):
    if words == ["--stamp"]:
        print(stamp(Path.cwd()))
        return 0
    if words:
        print(f"tools/environment.py takes no argument {' '.join(words)!r}", file=sys.stderr)
        return 2
    try:
        seconds = ensure(ROOT)
    except EnvironmentProblem as problem:
        print(f"mistral_edu: {problem}", file=sys.stderr)
        return 2
    if seconds:
        print(f"Environment ready in {seconds:.0f} s.", flush=True)
    return 0


def ensure(root):
    """Build the environment under `root` unless it is right; return the seconds that took."""
    folder = root / ".venv"
    if folder.exists() and not folder.is_dir():
        raise EnvironmentProblem(f"{folder} is a file and in the way; move it, then try again")
    if is_ready(root):
        return 0.0
    check_python(sys.version_info[:2], importlib.util.find_spec)
    if Path(sys.prefix).resolve() == folder.resolve():
        raise EnvironmentProblem(
            ".venv is out of date, and its own Python cannot replace it: `deactivate` first, then "
            "try again"
        )
    start = time.perf_counter()
    build(root)
    return time.perf_counter() - start


def is_ready(root):
    """True if the environment's interpreter starts and agrees with the stamp of its last build."""
    try:
        return _stamp_file(root).read_text(encoding="utf-8") == ask_for_stamp(root)
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError):
        return False


def ask_for_stamp(root):
    """The stamp as the environment's own interpreter works it out."""
    command = [str(interpreter(root)), str(Path(__file__).resolve()), "--stamp"]
    output = subprocess.check_output(
        command, cwd=str(root), stderr=subprocess.DEVNULL, timeout=60, env=_clean()
    )
    return output.decode()


def stamp(root):
    """What this interpreter, used as the environment of `root`, would have on its stamp."""
    import tomllib  # New in Python 3.11; an older one makes no environment and never gets here.

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    asked = json.dumps([project["build-system"], project["project"]], sort_keys=True)
    pinned = (root / "constraints.txt").read_text(encoding="utf-8")
    digest = hashlib.sha256((asked + pinned).encode()).hexdigest()
    return f"{sys.prefix}\nPython {sys.version_info[0]}.{sys.version_info[1]}\n{digest}"


def check_python(version, find):
    """Raise EnvironmentProblem unless this Python is new enough and can make environments."""
    if not OLDEST <= tuple(version) <= NEWEST:
        here = f"{sys.executable} is Python {version[0]}.{version[1]}"
        raise EnvironmentProblem(
            f"this course needs Python 3.11, 3.12 or 3.13, and {here}. {_another_python()}"
        )
    if find("venv") is None or find("ensurepip") is None:
        raise EnvironmentProblem(
            f"{sys.executable} cannot make environments: its venv module is missing. On Debian "
            "or Ubuntu, `sudo apt install python3-venv` adds it; then try again"
        )


def _another_python():
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        name = f"python3.{minor}"
        # A version manager may offer a name that starts nothing, so it has to start.
        if shutil.which(name) and subprocess.call([name, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return f"This machine has another: add PYTHON={name} to the make command"
    return "Install one of them and name it: make course PYTHON=python3.12"


def build(root):
    """Clear `.venv`, install the course and everything its tests need, and stamp it last."""
    replaced = ", in place of an unfinished or older one" if (root / ".venv").exists() else ""
    print(f"Making the environment in .venv{replaced} (a few minutes, once) …", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(root / ".venv")], root)
    install = ["-m", "pip", "install", "--disable-pip-version-check"]
    if not sys.stdout.isatty():  # A person at a terminal wants to see the download move.
        install += ["--quiet"]
    what = ["--constraint", "constraints.txt", "--editable", ".[test]"]
    _run([str(interpreter(root)), *install, *what], root)
    _stamp_file(root).write_text(ask_for_stamp(root), encoding="utf-8")


def interpreter(root):
    """The path of the environment's own Python."""
    inside = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")
    return root / ".venv" / inside


def _stamp_file(root):
    return root / ".venv" / "mistral_edu.stamp"


def _clean():
    # A learner's own PYTHONPATH or PIP_USER would shadow our packages or send them elsewhere.
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, "PIP_USER": "0"}


def _run(command, root):
    if subprocess.call(command, cwd=str(root), env=_clean()) != 0:
        raise EnvironmentProblem(
            f"making the environment stopped at `{' '.join(command)}`; the lines above say why "
            "(no network, no space left, a version not found). The same command starts afresh"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
