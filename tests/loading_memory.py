"""How much memory loading takes: a synthetic checkpoint, loaded in a fresh process that is watched.

    python -m tests.loading_memory                 about 2 GB, in shards of 500 MB
    python -m tests.loading_memory --megabytes 80 --cast
    python -m tests.loading_memory --bits 8        rounded as it is read

Exits with 1 if loading takes more than 1.15 times the checkpoint's bytes. The peak counts the pages
of the file that are mapped and touched as well as what is allocated: every weight is read once
after loading, so that nothing is left for later. It is given twice: of the whole process, Python
and torch included, and of loading alone. The limit holds for the whole process when the checkpoint
is large; a small one is judged by loading alone, for torch is larger than it.

With --bits the measure is what the model holds in the end, and rounding one matrix after the other
may take some float32 copies of the largest one besides.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from mistral_edu import MistralConfig, MistralForCausalLM
from mistral_edu.quantized_model import load_quantized, weight_bytes
from mistral_edu.weights.model_weights import planned
from mistral_edu.weights.saving import write_sharded
from mistral_edu.weights.shapes_only import shapes_only

ROOT = Path(__file__).parents[1]
LIMIT = 1.15
LARGE = 10**9  # bytes, from which on torch itself must fit under the limit too
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
COPIES = 8  # of the largest matrix in float32, while it is rounded
STORED, CAST = torch.bfloat16, torch.float16  # a cast that leaves the size as it is


def config_of(megabytes: int) -> MistralConfig:
    """A model of about this size at 2 bytes a weight, in Mistral's proportions."""
    hidden = 1024 if megabytes >= 500 else 256
    config = MistralConfig(
        vocab_size=8000,
        hidden_size=hidden,
        intermediate_size=hidden * 7 // 2,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    with shapes_only():
        one = MistralForCausalLM(config).num_parameters()
        layer = sum(p.numel() for p in MistralForCausalLM(config).model.layers.parameters())
    config.num_hidden_layers = max(1, round((megabytes * 10**6 / 2 - one) / layer) + 1)
    return config


def write_checkpoint(folder: Path, megabytes: int) -> int:
    """Write shards of random weights, one tensor at a time; returns their bytes."""
    config = config_of(megabytes)
    with shapes_only():
        tensors = planned(MistralForCausalLM(config), STORED)
    random = [
        (name, dtype, shape, lambda shape=shape: torch.randn(shape).to(STORED))
        for name, dtype, shape, _ in tensors
    ]
    write_sharded(folder, random, max_shard_bytes=megabytes * 10**6 // 4)
    config.save_pretrained(folder)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def sampled_peak(process: psutil.Process, stop: threading.Event) -> Iterator[int]:
    """Resident bytes, every millisecond until `stop`."""
    while not stop.wait(0.001):
        yield process.memory_info().rss


def load_watched(folder: str, cast: bool, bits: int | None) -> dict[str, float]:
    """Load the model in this process and touch every weight; report the peak and the time."""
    process, stop = psutil.Process(), threading.Event()
    before, peaks = process.memory_info().rss, [0]
    watch = threading.Thread(target=lambda: peaks.append(max(sampled_peak(process, stop))))
    watch.start()
    started = time.perf_counter()
    if bits:
        model = load_quantized(folder, bits=bits)
    else:
        model = MistralForCausalLM.from_pretrained(folder, dtype=CAST if cast else None)
    loaded = time.perf_counter()
    total = sum(
        float(parameter.detach().view(torch.int16).amax()) for parameter in model.parameters()
    )
    stop.set()
    watch.join()
    peak = max(peaks[-1], process.memory_info().rss)
    return {
        "before": before,
        "peak": peak,
        "maxrss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT,
        "seconds": loaded - started,
        "seconds with reading": time.perf_counter() - started,
        "checksum": total,
        "weights": weight_bytes(model),
    }


def measure(megabytes: int, cast: bool = False, bits: int | None = None) -> dict[str, float]:
    """Write a checkpoint, load it in a fresh process, and return what that process reports."""
    with tempfile.TemporaryDirectory() as folder:
        size = write_checkpoint(Path(folder), megabytes)
        command = [sys.executable, "-m", "tests.loading_memory", "--load", folder]
        command += ["--cast"] if cast else []
        command += ["--bits", str(bits)] if bits else []
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = {"checkpoint": size, **json.loads(done.stdout)}
    config = config_of(megabytes)
    widest = 4 * config.hidden_size * config.intermediate_size
    due = found["weights"] + COPIES * widest if bits else size
    found["ratio of the process"] = max(found["peak"], found["maxrss"]) / due
    found["ratio of loading"] = (found["peak"] - found["before"]) / due
    large = size >= LARGE and not bits
    found["judged"] = found["ratio of the process"] if large else found["ratio of loading"]
    return found


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Measure the memory that loading takes.")
    parser.add_argument("--megabytes", type=int, default=2000, help="of the checkpoint")
    parser.add_argument("--cast", action="store_true", help="cast every weight while loading")
    parser.add_argument("--bits", type=int, choices=[4, 8], help="round to so many while loading")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(load_watched(options.load, options.cast, options.bits)))
        return 0
    found = measure(options.megabytes, options.cast, options.bits)
    for name in ("checkpoint", "weights", "before", "peak", "maxrss"):
        print(f"{name:22}{found[name] / 1e6:10.1f} MB")
    for name in ("ratio of the process", "ratio of loading", "judged"):
        print(f"{name:22}{found[name]:10.3f}")
    for name in ("seconds", "seconds with reading"):
        print(f"{name:22}{found[name]:10.2f}")
    return int(found["judged"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
