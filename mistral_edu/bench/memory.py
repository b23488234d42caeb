"""Bytes that are really held: by tensors, and by the process.

A slice keeps the whole tensor alive that it was cut from. So what a cache holds is the storage
behind its tensors, each counted once, whatever their shapes say.

Lesson: 08_rolling_cache.
"""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

STATUS = Path("/proc/self/status")
FORGET = Path("/proc/self/clear_refs")  # "5" written to it makes Linux forget the peak


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


def resident() -> dict[str, int]:
    """Bytes in memory by kind: the process's own, and pages of files that are mapped and used.

    Pages of a file can be dropped and read again, so many processes can share few. Where the
    system does not tell them apart (all but Linux), everything counts as the process's own.

    >>> sorted(resident())
    ['mapped', 'own']
    """
    if not STATUS.exists():
        return {"own": psutil.Process().memory_info().rss, "mapped": 0}
    words = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    own, mapped = (int(words[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return {"own": own, "mapped": mapped}


def peak_of_device(device: torch.device) -> int | None:
    """The most bytes PyTorch has had allocated on a GPU; None on a CPU.

    >>> peak_of_device(torch.device("cpu")) is None
    True
    """
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else None


def give_back(device: torch.device) -> None:
    """Let other processes have the GPU memory that PyTorch keeps though nothing is in it any more.

    >>> give_back(torch.device("cpu"))
    """
    gc.collect()  # what refers to itself, as a recorded step may
    if device.type == "cuda":
        torch.cuda.empty_cache()


def extra_bytes(run: Callable[[], Any], device: torch.device) -> int | None:
    """The most bytes that some work needs at once beyond what is there before it.

    On a GPU they are counted by PyTorch, on a CPU by Linux, in pages; elsewhere it is None.

    >>> found = extra_bytes(lambda: torch.ones(2**24).sum(), torch.device("cpu"))
    >>> found is None or found > 2**25
    True
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not FORGET.exists():
        return None
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # or the work would be given what the process kept of earlier work
    FORGET.write_text("5")
    before = psutil.Process().memory_info().rss
    run()
    return max(0, peak_of_process() - before)
