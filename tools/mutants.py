"""Plant each known bug in a copy of the library and see that the test named for it fails.

    python tools/mutants.py            # all of tests/mutants.toml
    python tools/mutants.py 5 17       # only the bugs of these traps

A bug that its test does not notice is a hole in the tests, and the exit status is 1. The copies lie
in a temporary folder; the working tree is never touched.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("mistral_edu", "tests", "tools", "data", "notebooks", "conftest.py", "pyproject.toml")
SOME_TESTS_FAILED = 1  # of pytest's exit codes; anything above is no verdict


@dataclass(frozen=True)
class Mutant:
    """One planted bug: `old` becomes `new` in `file`, and `test` must fail."""

    trap: str
    bug: str
    file: str
    old: str
    new: str
    test: str


def read_mutants():
    """The mutants of tests/mutants.toml, in order."""
    text = (ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8")
    return [Mutant(**entry) for entry in tomllib.loads(text)["mutant"]]


def plant(mutant, root):
    """Change the copy under `root`; raise if the line is not there exactly once."""
    path = root / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} holds {mutant.old!r} {text.count(mutant.old)} times")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def copy_of_the_repository(folder):
    """Copy what tests need into `folder`."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, folder / name)


def run(tests, root):
    """Run tests in the copy; return pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)
    return done.returncode


def verdict(mutant):
    """What became of one mutant: "caught", "SURVIVED", or why it could not be judged."""
    with tempfile.TemporaryDirectory(prefix="mutant_") as folder:
        copy_of_the_repository(Path(folder))
        try:
            plant(mutant, Path(folder))
        except ValueError as error:
            return f"NOT PLANTED: {error}"
        code = run([mutant.test], Path(folder))
    if code == SOME_TESTS_FAILED:
        return "caught"
    return "SURVIVED" if code == 0 else f"NOT JUDGED: pytest ended with {code}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traps", nargs="*", help="only the bugs of these traps")
    chosen = parser.parse_args().traps
    mutants = [m for m in read_mutants() if not chosen or m.trap in chosen]
    if run(sorted({mutant.test for mutant in mutants}), ROOT) != 0:
        print("the named tests do not pass without a bug: repair that first", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(verdict, mutants))
    for mutant, result in zip(mutants, verdicts, strict=True):
        print(f"{mutant.trap:>4}  {result:<8}  {mutant.bug}\n{'':16}{mutant.test}")
    caught = verdicts.count("caught")
    print(f"{caught} of {len(mutants)} planted bugs caught")
    return 0 if caught == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
