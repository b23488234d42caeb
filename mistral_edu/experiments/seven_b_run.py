"""The fresh process of `seven_b`: load, take in a prompt twice, write a few tokens, report.

    load → [loading] → prompt → [first prompt] → prompt → [prompt] → token, token, … → [token]
    make an engine → [engine] → prompt → [engine's prompt] → token, … → [engine's token]

The first prompt touches every weight for the first time: that is when a mapped file is really read.

Lesson: 14_the_full_7b.

Conventions
    A fused matrix is no longer the file's. Once the engine is made, 9 of the 14 gigabytes are the
    process's own, and the pages they were copied from may go.
    Linux may still have a file in memory that was just written, so its pages are given up first.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mistral_edu.bench import ceilings, costs
from mistral_edu.bench.memory import resident
from mistral_edu.bench.sizes import random_ids
from mistral_edu.bench.timing import finisher
from mistral_edu.engine import Engine
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.tokenizer import MistralTokenizer

TEXT = "The first thing to know about a rolling cache is"
Result = TypeVar("Result")


class Stopwatch:
    """Times calls, having waited for the device."""

    def __init__(self, device: torch.device) -> None:
        self.finish = finisher(device)

    def __call__(self, call: Callable[[], Result]) -> tuple[Result, float]:
        self.finish()
        start = time.perf_counter()
        result = call()
        self.finish()
        return result, time.perf_counter() - start


@dataclass(frozen=True)
class Run:
    """One way to run: the prompt's scores, what was written, what it took, and bytes then held."""

    scores: Tensor
    written: list[int]
    took: dict[str, Any]
    held: dict[str, int]


@torch.no_grad()
def watch(folder: Path, device: torch.device, prompt: int, steps: int) -> dict[str, Any]:
    """Run the model of a folder in this process: plainly, then by the engine.

    Args:
        folder: config.json and the weights; with a tokenizer it is given words, else random ids.
        device: where to compute.
        prompt: tokens of the prompt, if it is random.
        steps: tokens to write after it.

    Returns:
        Seconds, bytes, the limit of reading in bytes a second, and what was written.
    """
    forget_pages(folder)
    timed, before = Stopwatch(device), resident()
    model, loading = timed(lambda: MistralForCausalLM.from_pretrained(folder, device=device))
    after_loading = resident()
    config, tokenizer = model.config, _tokenizer(folder)
    ids = torch.tensor([tokenizer.encode(TEXT)]) if tokenizer else random_ids(config, 1, prompt)
    ids = ids.to(device)
    plain, fast = _plainly(model, ids, steps, timed), _by_engine(model, ids, steps, timed)
    limits = ceilings.measure([model.dtype], device, quick=True)
    return {
        "parameters": model.num_parameters(),
        "dtype": ceilings.name_of(model.dtype),
        "attention": model.attention_backend,
        "prompt tokens": ids.shape[1],
        "loading": loading,
        **plain.took,
        **fast.took,
        "engine's difference": float(
            (fast.scores - plain.scores).abs().max() / plain.scores.abs().max()
        ),
        "limit": costs.step_bytes(config, 1, ids.shape[1], model.dtype) / limits.read.median,
        "own after loading": after_loading["own"] - before["own"],
        "own": plain.held["own"] - before["own"],
        "mapped": plain.held["mapped"] - before["mapped"],
        "own with the engine": fast.held["own"] - before["own"],
        "mapped with the engine": fast.held["mapped"] - before["mapped"],
        "written": tokenizer.decode([*ids[0].tolist(), *plain.written]) if tokenizer else None,
    }


def _plainly(model: MistralForCausalLM, ids: Tensor, steps: int, timed: Stopwatch) -> Run:
    def take_in() -> tuple[RollingCache, Tensor]:
        cache = RollingCache.allocate(model.config, 1, dtype=model.dtype, device=model.device)
        return cache, model(ids, past_key_values=cache, logits_to_keep=1).logits[:, -1]

    _, first = timed(take_in)
    (cache, scores), again = timed(take_in)
    seconds, written, newest = [], [], scores
    for _ in range(steps):
        token = newest.argmax(dim=-1, keepdim=True)
        output, one = timed(partial(model, token, past_key_values=cache))
        newest = output.logits[:, -1]
        seconds.append(one)
        written.append(int(token))
    took: dict[str, Any] = {"first prompt": first, "prompt": again, "cache": cache.nbytes}
    took |= {"token": statistics.median(seconds), "tokens": seconds}
    return Run(scores.float(), written, took, resident())  # while the cache is there


def _by_engine(model: MistralForCausalLM, ids: Tensor, steps: int, timed: Stopwatch) -> Run:
    capacity = None if model.config.sliding_window else ids.shape[1] + steps
    engine, making = timed(lambda: Engine(model, capacity=capacity))
    scores, prompt = timed(partial(engine.prefill, ids))
    newest, seconds, written = scores, [], []
    for _ in range(steps):
        token = newest.argmax(dim=-1)
        newest, one = timed(partial(engine.step, token))
        seconds.append(one)
        written.append(int(token))
    took: dict[str, Any] = {"engine": making, "engine's prompt": prompt}
    took |= {"engine's token": statistics.median(seconds), "engine's tokens": seconds}
    return Run(scores.float(), written, took, resident())


def forget_pages(folder: Path) -> None:
    """Make the system read a folder's weights from the disk again, where it can be told to."""
    if hasattr(os, "posix_fadvise"):
        for path in folder.glob("*.safetensors"):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _tokenizer(folder: Path) -> MistralTokenizer | None:
    try:
        return MistralTokenizer.from_pretrained(folder)
    except FileNotFoundError:
        return None


def main(task: dict[str, Any]) -> None:
    """What the fresh process does."""
    device = torch.device(task["device"])
    found = watch(Path(task["folder"]), device, task["prompt"], task["steps"])
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
