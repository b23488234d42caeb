"""A launcher that runs out of time leaves no rank behind, however the ranks were started."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mistral_edu.course.launching import run_family

# As torchrun starts its ranks: each in a session of its own, where no signal to a group comes.
LAUNCHER = """
import os, signal, subprocess, sys, time
from pathlib import Path

if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder, role = Path(sys.argv[1]), sys.argv[2]
if role == "launcher":
    for rank in "01":
        subprocess.Popen([sys.executable, __file__, folder, rank], start_new_session=True)
name = folder / ("pid " + role)
name.with_suffix(".part").write_text(str(os.getpid()))
name.with_suffix(".part").rename(name)
time.sleep(45)
(folder / ("ended by itself " + role)).touch()
"""


def runs(pid: int) -> bool:
    """Whether a process is there and not merely unburied."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def written(folder: Path) -> list[int]:
    """The launcher and its ranks, as they have introduced themselves."""
    return [int(path.read_text()) for path in folder.glob("pid *")]


def left_of(pids: list[int]) -> list[int]:
    """Who still runs; and end them."""
    deadline = time.monotonic() + 5  # a killed process takes a moment to go
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in pids if runs(pid)]
    for pid in left:
        psutil.Process(pid).kill()
    return left


@pytest.mark.parametrize("stubborn", [False, True])
def test_when_the_time_is_up_no_rank_is_left(tmp_path, stubborn):
    program = tmp_path / "launcher.py"
    program.write_text(LAUNCHER.format(stubborn=stubborn))
    command = [sys.executable, str(program), str(tmp_path), "launcher"]
    with pytest.raises(subprocess.TimeoutExpired):
        run_family(command, seconds=4)
    pids = written(tmp_path)
    assert len(pids) == 3 and left_of(pids) == []
    assert not list(tmp_path.glob("ended by itself *"))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no such clock")
def test_an_interrupted_cell_leaves_no_rank_either(tmp_path):
    program = tmp_path / "launcher.py"
    program.write_text(LAUNCHER.format(stubborn=False))

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 4)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_family([sys.executable, str(program), str(tmp_path), "launcher"], seconds=40)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    pids = written(tmp_path)
    assert len(pids) == 3 and left_of(pids) == []


def test_what_goes_well_and_what_fails_is_told():
    failing = "import sys, os; print(os.environ['WORD'], file=sys.stderr); sys.exit(2)"
    command = [sys.executable, "-c", failing]
    assert run_family(command, seconds=60, environment={"WORD": "why"}) == (2, "why\n")
    assert run_family([sys.executable, "-c", ""], seconds=60) == (0, "")
