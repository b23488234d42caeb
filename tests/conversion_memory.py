"""Convert a checkpoint of 1 GB every way and watch memory: it must stay near one tensor.

python -m tests.conversion_memory --layers 7
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import torch

from mistral_edu import MistralConfig
from mistral_edu.weights.convert import convert
from mistral_edu.weights.names import entries
from mistral_edu.weights.saving import write_sharded

WAYS = [  # source, target, layout, pth
    ("hugging-face", "safetensors", "original", False),
    ("hugging-face", "pth", "original", True),
    ("safetensors", "back", "hugging-face", False),
    ("pth", "back again", "hugging-face", False),
]
MOST = 2.0  # largest tensors


def make(folder: Path, layers: int) -> int:
    """Write a random bfloat16 checkpoint; return the bytes of its largest tensor."""
    config = MistralConfig(hidden_size=2048, intermediate_size=7168, num_attention_heads=16,
                           num_hidden_layers=layers, num_key_value_heads=4)  # fmt: skip
    config.save_pretrained(folder)
    draw = torch.Generator().manual_seed(0)

    def tensor(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=draw).bfloat16()

    write_sharded(
        folder,
        [
            (
                entry.hugging_face,
                torch.bfloat16,
                entry.shape,
                lambda shape=entry.shape: tensor(shape),
            )
            for entry in entries(config)
        ],
    )
    return 2 * max(torch.Size(entry.shape).numel() for entry in entries(config))


def measure(source: str, target: str, layout: str, pth: bool) -> dict[str, float]:
    """Convert in this process; resident bytes above the start: all of them, and without files."""
    process, done = psutil.Process(), threading.Event()
    torch.zeros(1).clone()
    start, most, most_private = process.memory_info(), 0, 0

    def watch() -> None:
        nonlocal most, most_private
        while not done.is_set():
            now = process.memory_info()
            most = max(most, now.rss - start.rss)
            most_private = max(most_private, (now.rss - now.shared) - (start.rss - start.shared))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    convert(source, target, layout, pth=pth, progress=False)
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    return {"resident": most, "private": most_private, "seconds": seconds}


def main() -> int:
    """Command line of this module; 0 if every way stayed within `MOST` largest tensors."""
    parser = argparse.ArgumentParser(description="Convert 1 GB and watch memory (Linux).")
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        source, target, layout, pth = options.one
        print(json.dumps(measure(source, target, layout, pth == "True")))
        return 0
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        largest = make(folder / "hugging-face", options.layers)
        size = sum(path.stat().st_size for path in (folder / "hugging-face").iterdir())
        print(f"checkpoint {size / 1e6:,.0f} MB, largest tensor {largest / 1e6:.0f} MB")
        for source, target, layout, pth in WAYS:
            words = [str(folder / source), str(folder / target), layout, str(pth)]
            command = [sys.executable, "-m", "tests.conversion_memory", "--one", *words]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(answer.stdout)
            worst = max(worst, found["resident"] / largest)
            print(
                f"{source} → {target}: {found['seconds']:.1f} s, "
                f"{found['resident'] / 1e6:.0f} MB resident above the start = "
                f"{found['resident'] / largest:.2f} largest tensors, "
                f"of them {found['private'] / 1e6:.0f} MB not mapped from a file"
            )
    print(f"worst ratio {worst:.2f}, expected at most {MOST}")
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
