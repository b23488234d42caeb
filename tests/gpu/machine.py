"""What the machine is and how fast it can be: the limits that every other figure is held against.

    ceiling = bytes read / median time,   over several ways of only reading; the best of them

A copy counts what it reads and what it writes. All data is random: zeros flatter a GPU, which
draws less power and clocks higher for them.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from mistral_edu.bench import ceilings
from tests.gpu.steps import NotHere, Setting

PACKAGES = ("torch", "triton", "flash-attn", "transformers", "safetensors", "numpy")
CLOCKS = (
    "driver_version",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.limit",
    "temperature.gpu",
)
REPEATS, CALLS = 20, 10  # timings to take the median of; calls in one, so that starting is nothing


def parts(setting: Setting) -> dict[str, Callable[[], dict[str, Any]]]:
    """The parts of this step."""
    return {
        "versions": lambda: versions() | device(setting),
        "clocks": lambda: clocks(setting),
        "reading": lambda: reading(setting),
        "copying": lambda: copying(setting),
        "multiplying": lambda: multiplying(setting),
    }


def versions() -> dict[str, Any]:
    """System, Python and packages.

    >>> sorted(versions())
    ['cores', 'cuda', 'packages', 'python', 'system']
    """
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "cuda": torch.version.cuda,
        "packages": found | {"torch": torch.__version__},
    }


def device(setting: Setting) -> dict[str, Any]:
    """The device as PyTorch sees it."""
    if not setting.on_gpu:
        return {"device": platform.machine(), "threads": torch.get_num_threads()}
    about = torch.cuda.get_device_properties(0)
    return {
        "device": about.name,
        "capability": f"{about.major}.{about.minor}",
        "memory_bytes": about.total_memory,
        "multiprocessors": about.multi_processor_count,
    }


def clocks(setting: Setting) -> dict[str, Any]:
    """Driver, clocks and power limit, read from `nvidia-smi` while the device is at rest."""
    tool = shutil.which("nvidia-smi") if setting.on_gpu else None
    if tool is None:
        raise NotHere("clocks are those of an NVIDIA device, read with nvidia-smi")
    query = [tool, f"--query-gpu={','.join(CLOCKS)}", "--format=csv,noheader"]
    line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return dict(zip(CLOCKS, (value.strip() for value in line.split(",")), strict=True))


def reading(setting: Setting) -> dict[str, Any]:
    """Bytes a second that can be read, in the ways that the benchmark's limit is found by."""
    rows, columns = (4096, 1024) if setting.small else (2**18, 2**13)  # 4 GiB in bfloat16
    matrix = random_halves(setting, rows, columns)
    ways = ceilings.ways_to_read(matrix)
    rates = {name: matrix.nbytes / seconds(setting, way) for name, way in ways.items()}
    best = max(rates, key=lambda name: rates[name])
    return {
        "bytes": matrix.nbytes,
        "bytes_per_second": rates,
        "ceiling_bytes_per_second": rates[best],
        "ceiling_by": best,
    }


def copying(setting: Setting) -> dict[str, Any]:
    """Bytes a second that a copy moves, read and written together."""
    source = random_halves(setting, *((4096, 1024) if setting.small else (2**18, 2**13)))
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / seconds(setting, lambda: target.copy_(source))
    return {"bytes": source.nbytes, "read_and_written_bytes_per_second": rate}


def multiplying(setting: Setting) -> dict[str, Any]:
    """Floating-point operations a second of one large matrix product in bfloat16."""
    size = 256 if setting.small else 8192
    a, b = (random_halves(setting, size, size) for _ in range(2))
    return {"size": size, "flop_per_second": 2 * size**3 / seconds(setting, lambda: a @ b)}


def random_halves(setting: Setting, rows: int, columns: int) -> Tensor:
    """Random numbers in bfloat16 on the device."""
    return torch.randn(rows, columns, dtype=torch.bfloat16, device=setting.device)


def seconds(setting: Setting, work: Callable[[], Any]) -> float:
    """The median time of one call, after a few that do not count."""
    for _ in range(3):
        work()
    timed = _timed_by_events if setting.on_gpu else _timed_by_clock
    return statistics.median(timed(work) for _ in range(3 if setting.small else REPEATS))


def _timed_by_events(work: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(CALLS):
        work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / CALLS


def _timed_by_clock(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
