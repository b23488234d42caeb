"""Loading, in a fresh process: seconds until ready, and the most memory on the way.

    open the peer → [ready] → a prompt → [first token] → a few more tokens → [peak]

Source: the report of the process itself, printed as JSON.
Lesson: 11_weights.

Conventions
    The clock starts after the peer's code is imported: imports are no part of loading weights.
    Weights that are mapped from the file cost time and memory when they are first used, so the
    first token is timed too, and peaks count pages that are mapped and used.
    Peaks are above what the process held before loading: Python and PyTorch are not counted.
    The file was just written, so it is read from memory and not from the disk.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from mistral_edu.bench import memory, roster
from mistral_edu.bench.ceilings import name_of
from mistral_edu.bench.peers import Material
from mistral_edu.bench.sizes import random_ids
from mistral_edu.bench.timing import finisher

PROMPT, STEPS = 32, 4


def watch(name: str, material: Material, prompt: int) -> dict[str, float]:
    """Load a peer in this process, use it, and say what that took.

    Args:
        name: of the peer.
        material: the weights.
        prompt: tokens of the longer prompt, whose memory counts.

    Returns:
        "ready" and "first token" in seconds; "loading peak" and "peak" in bytes.
    """
    peer, finish = roster.peer_named(name), finisher(material.device)
    reason = peer.why_absent(material.device, material.dtype)  # also imports what it needs
    if reason:
        raise RuntimeError(f"{name} cannot run: {reason}")
    peer.prepare(material)
    ids = random_ids(material.config, 1, prompt + STEPS).to(material.device)
    finish()
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    opened = peer.open(material)
    finish()
    ready = time.perf_counter() - start
    loaded = _peak(material, before)
    session = opened.session(1, prompt + STEPS)
    session.start(ids[:, : min(PROMPT, prompt)])
    session.logits().argmax()
    first = time.perf_counter() - start
    session.start(ids[:, :prompt])
    for column in ids[:, prompt:].T:
        session.step(column)
    session.logits()
    peak = _peak(material, before)
    return {"ready": ready, "first token": first, "loading peak": loaded, "peak": peak}


def _peak(material: Material, before: int) -> int:
    on_device = memory.peak_of_device(material.device)
    return max(0, memory.peak_of_process() - before) if on_device is None else on_device


def in_fresh_process(name: str, material: Material, prompt: int) -> dict[str, float]:
    """As `watch`, in a process of its own.

    Raises:
        RuntimeError: if that process fails; with the end of what it said.
    """
    task = {
        "peer": name,
        "folder": str(material.folder),
        "scratch": str(material.scratch),
        "dtype": name_of(material.dtype),
        "device": str(material.device),
        "threads": material.threads,
        "prompt": prompt,
    }
    command = [sys.executable, "-m", "mistral_edu.bench.loading", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise RuntimeError(f"loading {name} in a fresh process failed: {said}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(task: dict[str, Any]) -> None:
    """What the fresh process does."""
    torch.set_num_threads(task["threads"])
    material = Material(
        Path(task["folder"]),
        getattr(torch, task["dtype"]),
        torch.device(task["device"]),
        task["threads"],
        Path(task["scratch"]),
    )
    print(json.dumps(watch(task["peer"], material, task["prompt"])))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
