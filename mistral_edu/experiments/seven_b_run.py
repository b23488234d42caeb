"""The fresh process of `seven_b`: load, take in a prompt twice, write a few tokens, report.

    load → [loading] → prompt → [first prompt] → prompt → [prompt] → token, token, … → [token]

The first prompt touches every weight for the first time: that is when a mapped file is really read.

Lesson: 14_the_full_7b.

Conventions
    The plain model and the rolling cache. The engine fuses matrices, and a fused matrix is no
    longer the file's: 9 of the 14 gigabytes would be held beside the pages they were read from.
    Linux may still have a file in memory that was just written, so its pages are given up first.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mistral_edu.bench import ceilings, costs
from mistral_edu.bench.memory import resident
from mistral_edu.bench.sizes import random_ids
from mistral_edu.bench.timing import finisher
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


@torch.no_grad()
def watch(folder: Path, device: torch.device, prompt: int, steps: int) -> dict[str, Any]:
    """Run the model of a folder in this process.

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

    def take_in() -> tuple[RollingCache, Tensor]:
        cache = RollingCache.allocate(config, 1, dtype=model.dtype, device=device)
        return cache, model(ids, past_key_values=cache, logits_to_keep=1).logits[:, -1]

    _, first = timed(take_in)
    (cache, logits), again = timed(take_in)
    seconds, written = [], []
    for _ in range(steps):
        token = logits.argmax(dim=-1, keepdim=True)
        output, took = timed(partial(model, token, past_key_values=cache))
        logits = output.logits[:, -1]
        seconds.append(took)
        written.append(int(token))
    at_the_end = resident()
    limits = ceilings.measure([model.dtype], device, quick=True)
    return {
        "parameters": model.num_parameters(),
        "dtype": ceilings.name_of(model.dtype),
        "attention": model.attention_backend,
        "loading": loading,
        "prompt tokens": ids.shape[1],
        "first prompt": first,
        "prompt": again,
        "token": statistics.median(seconds),
        "tokens": seconds,
        "limit": costs.step_bytes(config, 1, ids.shape[1], model.dtype) / limits.read.median,
        "cache": cache.nbytes,
        "own after loading": after_loading["own"] - before["own"],
        "own at the end": at_the_end["own"] - before["own"],
        "mapped at the end": at_the_end["mapped"] - before["mapped"],
        "written": tokenizer.decode([*ids[0].tolist(), *written]) if tokenizer else None,
    }


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
