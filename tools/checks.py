"""Run every check of the repository, say how long each took, and fail if any failed.

    python3 tools/checks.py          # all of them
    python3 tools/checks.py lint     # only these

It makes the environment first when there is none, so it needs nothing but a bare Python.
"""

import subprocess
import sys
import time

import environment

NOTEBOOKS = (
    "pytest -p no:cacheprovider --nbval --nbval-current-env"
    " --nbval-sanitize-with tests/nbval_sanitize.cfg --nbval-cell-timeout 120 notebooks"
)
CHECKS = {
    "lint": ["ruff check .", "ruff format --check .", "mypy"],
    "unit": ["pytest --ignore tests/browser"],
    "browser": ["pytest tests/browser"],
    "notebooks": [NOTEBOOKS],
}


def main(chosen):
    unknown = sorted(set(chosen) - set(CHECKS))
    if unknown:
        print(
            f"no check called {', '.join(unknown)}; there are {', '.join(CHECKS)}", file=sys.stderr
        )
        return 2
    try:
        setup = environment.ensure(environment.ROOT)
    except environment.EnvironmentProblem as problem:
        print(f"mistral_edu: {problem}", file=sys.stderr)
        return 2
    names = [name for name in CHECKS if name in chosen or not chosen]
    results = [run(command) for name in names for command in CHECKS[name]]
    return report(setup, results)


def run(command):
    """Run one check inside the environment; return (command, seconds, passed)."""
    tool, *rest = command.split()
    print(f"\n$ {command}", flush=True)
    start = time.perf_counter()
    python = str(environment.interpreter(environment.ROOT))
    status = subprocess.call([python, "-m", tool, *rest], cwd=str(environment.ROOT))
    return command, time.perf_counter() - start, status == 0


def report(setup, results):
    """Print a line for each check and the two wall times; return the exit status."""
    print(f"\nset-up {setup:6.0f} s")
    for command, seconds, passed in results:
        print(f"{'pass' if passed else 'FAIL'}   {seconds:6.0f} s  {command[:70]}")
    good = sum(passed for _, _, passed in results)
    print(f"tests  {sum(seconds for _, seconds, _ in results):6.0f} s")
    print(f"{good} passed, {len(results) - good} failed")
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
