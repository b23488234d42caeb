"""Every reader of files, fed with damaged ones: it reads them or refuses them properly."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))
RUNS = 2000


@pytest.fixture
def run(repository, tmp_path):
    """Runs a target in a process of its own, with one flag; returns what it printed."""

    def run_target(target, flag):
        done = subprocess.run(
            [sys.executable, "-m", f"tests.fuzz.{target}", flag],
            cwd=repository,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
        return done.stderr

    return run_target


@pytest.mark.parametrize("target", TARGETS)
def test_a_reader_survives_random_damage(run, target):
    run(target, f"--mutations={RUNS}")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: it comes with the test extra on Linux x86-64",
)
def test_a_reader_survives_damage_guided_by_coverage(run, target):
    assert f"Done {RUNS} in" in run(target, f"-atheris_runs={RUNS}")


def test_a_target_that_fails_is_reported():
    from tests.fuzz.harness import run_mutations

    def fragile(data):
        if len(data) < 3:
            raise KeyError(data)

    with pytest.raises(KeyError):
        run_mutations(fragile, [b"12345678"], 100)
