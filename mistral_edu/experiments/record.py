"""What an experiment leaves behind: one JSON table and one figure, written whole or not at all.

    rows + settings + machine  ->  data/measurements/NAME.json,  NAME.png

Lesson: 15_long_context.

Conventions
    A row is a flat dictionary; every row of a table has the same keys. The JSON names the command
    that makes it again, the date, the machine and the versions.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mistral_edu import paths
from mistral_edu.weights.whole_files import whole_set

Row = Mapping[str, Any]
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Measurement:
    """A table with how it came about.

    Args:
        name: the file's stem, which is the experiment's name on the command line.
        finding: one sentence that says what came out; it is the figure's title.
        settings: everything that decides the table.
        rows: the table.
        seconds: how long it took.
        command: what to type for it; None for that of an experiment.
    """

    name: str
    finding: str
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    seconds: float
    command: str | None = None

    def write(self, folder: Path, draw: Callable[["Measurement", Path], None]) -> Path:
        """Write NAME.json and NAME.png into a folder, which is made if absent.

        Args:
            folder: where.
            draw: draws the figure of a measurement into a PNG file.

        Returns:
            The JSON file.
        """
        table = f"{self.name}.json"
        text = json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"
        with whole_set(folder) as staging:
            draw(self, staging / f"{self.name}.png")
            (staging / table).write_text(text, encoding="utf-8")
        return folder / table

    def as_json(self) -> dict[str, Any]:
        """The measurement with its command, date, machine and versions."""
        return {
            "experiment": self.name,
            "command": self.command or f"mistral-edu experiment {self.name}",
            "finding": self.finding,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "seconds": round(self.seconds, 1),
            "settings": dict(self.settings),
            "rows": [dict(row) for row in self.rows],
        }


def machine() -> dict[str, Any]:
    """The processor, its cores and the versions that decide figures and speed.

    >>> sorted(machine())
    ['cores', 'device', 'processor', 'python', 'torch']
    """
    on_gpu = torch.cuda.is_available()
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def processor() -> str:
    """The processor's name where the system tells it, and what PyTorch makes use of in it.

    >>> "(" in processor()
    True
    """
    name = platform.machine()
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    able = torch.backends.cpu.get_cpu_capability()
    matrices = " and AMX" if torch.cpu._is_amx_tile_supported() else ""
    return f"{name} ({able}{matrices})"


def measurements_dir() -> Path:
    """Where recorded measurements lie: `data/measurements`.

    >>> measurements_dir().name
    'measurements'
    """
    return paths.data_dir() / "measurements"


def read(name: str) -> dict[str, Any]:
    """Read a recorded measurement.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    path = measurements_dir() / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no measurement at {path}: make it by mistral-edu experiment {name}"
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def last_took(name: str) -> str | None:
    """How long the recorded run of an experiment took, and where; None if none is recorded.

    >>> last_took("a question nobody has put") is None
    True
    """
    try:
        found = read(name)
    except FileNotFoundError:
        return None
    machine, minutes = found["machine"], found["seconds"] / 60
    return f"{minutes:.1f} minutes on {machine['cores']} cores of {machine['processor']}"


def say(text: str) -> None:
    """Tell what is being measured, beside the output proper.

    >>> say("half of it is done")
    """
    print(text, file=sys.stderr, flush=True)


class Clock:
    """Seconds since it was made.

    >>> Clock().seconds >= 0
    True
    """

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.start
