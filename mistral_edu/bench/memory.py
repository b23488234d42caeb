"""Bytes that are really held: by tensors, and by the process.

A slice keeps the whole tensor alive that it was cut from. So what a cache holds is the storage
behind its tensors, each counted once, whatever their shapes say.

Lesson: 08_rolling_cache.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch
from torch import Tensor

STATUS = Path("/proc/self/status")


def bytes_held(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind some tensors, each counted once.

    >>> prompt = torch.zeros(100)
    >>> bytes_held([prompt[-10:], prompt[:5]]), bytes_held([prompt[-10:].clone()])
    (400, 40)
    """
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def peak_of_process() -> int:
    """The most bytes this process has had resident since it started.

    Mapped pages of a file count from their first use, as they take memory then. On Linux it is
    read from /proc: what `getrusage` says there begins with the parent's own peak.

    >>> peak_of_process() > 10**6
    True
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    info = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(info.peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS


def peak_of_device(device: torch.device) -> int | None:
    """The most bytes PyTorch has had allocated on a GPU; None on a CPU.

    >>> peak_of_device(torch.device("cpu")) is None
    True
    """
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else None
