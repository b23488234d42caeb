"""Running a program that starts others, and leaving none of them behind.

`torchrun` gives every rank a session of its own. So neither the death of torchrun nor a signal to
its process group reaches the ranks: whoever ends it must know them by name, and ask for the names
while torchrun still lives. Lesson 16 starts its ranks here.
"""

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence

import psutil


def run_family(
    command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command to its end; where its time is up, end it and all that it started.

    Args:
        command: program and arguments.
        seconds: how long it may take.
        environment: variables beside those of this process.

    Returns:
        Exit code, and what was written to the error stream. Output is dropped.

    Raises:
        subprocess.TimeoutExpired: after `seconds`. Nothing that the command started runs on; nor
            does it after an interrupt.
        OSError: where the command cannot be started.

    >>> import sys
    >>> run_family([sys.executable, "-c", "raise SystemExit(3)"], seconds=60)
    (3, '')
    """
    with subprocess.Popen(
        command,
        env=os.environ | dict(environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            errors = process.communicate(timeout=seconds)[1]
        except BaseException:  # the clock, or an interrupt of the cell
            end_family(process.pid)
            raise
    return process.returncode, errors


def end_family(pid: int, grace: float = 5.0) -> None:
    """End a process and its descendants: ask all of them, then kill those who stay.

    Args:
        pid: of the process; one that has gone is no mistake.
        grace: seconds they have to go by themselves.

    >>> import sys
    >>> with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
    ...     end_family(process.pid)
    >>> psutil.pid_exists(process.pid)
    False
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        for member in psutil.wait_procs(family, timeout=grace)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=1)
