"""The full 7B on this machine: 7,241,732,096 parameters in bfloat16, mapped from their file.

    14.5 GB of weights are mapped, not copied: the file's pages are the model's memory

The plain model runs on them as they are; the engine fuses matrices, and these it copies. With
random weights, written once, for speed and memory do not depend on what they say; or with the
real ones, from the folder that the environment variable MISTRAL_EDU_7B names.

Source: "Mistral 7B" (arXiv 2310.06825), table 1.
Lesson: 14_the_full_7b.

Conventions
    On a processor it takes 15 GB of free memory, and of disk if the weights are random; about ten
    minutes on two cores that can multiply bfloat16, far more on others. TMPDIR says where to write.
    A token's limit is what must be read for it, at the rate at which this process can read.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from mistral_edu.bench import sizes
from mistral_edu.bench.costs import body_parameters
from mistral_edu.config import MistralConfig
from mistral_edu.experiments.record import Clock, Measurement, Row
from mistral_edu.viz.style import BLUE, INK, QUIET, card, panel, sheet
from mistral_edu.weights.model_folder import open_model

REAL = "MISTRAL_EDU_7B"
SHAPES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads"),
)
ROOM = 1.03  # times the weights: for what stands beside them


@dataclass(frozen=True)
class Settings:
    """What is run.

    Args:
        model: a size of `bench.sizes`.
        dtype: its weights' type, if they are random.
        prompt, steps: tokens to take in and to write.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
    """

    model: str = "7b"
    dtype: str = "bfloat16"
    prompt: int = 32
    steps: int = 8
    device: str | None = None

    @property
    def where(self) -> str:
        """The device."""
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


def weight_bytes(config: MistralConfig, dtype: torch.dtype) -> int:
    """Bytes of all weights.

    >>> weight_bytes(MistralConfig.mistral_7b_v0_1(), torch.bfloat16)
    14483464192
    """
    tables = 1 if config.tie_word_embeddings else 2
    numbers = body_parameters(config) + tables * config.vocab_size * config.hidden_size
    return numbers * dtype.itemsize


@contextmanager
def weights(settings: Settings) -> Iterator[Path]:
    """The folder of the weights: the real ones, or random ones that are deleted afterwards.

    Raises:
        FileNotFoundError: if MISTRAL_EDU_7B names no folder with a model.
        ValueError: if it names a model of other shapes.
        OSError: without room on the disk.
    """
    if named := os.environ.get(REAL):
        folder = Path(named)
        if not any((folder / name).is_file() for name in ("config.json", "params.json")):
            raise FileNotFoundError(
                f"{REAL}={named} is no folder with config.json or params.json: name the folder of "
                "Mistral-7B-v0.1, or unset it to run random weights"
            )
        require_shapes(folder, sizes.config_of(settings.model))
        yield folder
        return
    dtype = getattr(torch, settings.dtype)
    needed = int(ROOM * weight_bytes(sizes.config_of(settings.model), dtype))
    with tempfile.TemporaryDirectory() as scratch:
        if (free := shutil.disk_usage(scratch).free) < needed:
            raise OSError(
                f"{scratch} has {free:,} bytes free and the weights need {needed:,}: name a larger "
                "disk by TMPDIR"
            )
        folder = Path(scratch) / settings.model
        sizes.write_weights(settings.model, folder, dtype, torch.device(settings.where))
        yield folder


def require_shapes(folder: Path, expected: MistralConfig) -> None:
    """Refuse a model that is not the one to measure; releases differ in vocabulary and window only.

    Raises:
        ValueError: naming the first shape that is another.
    """
    found, _ = open_model(folder)
    for name in SHAPES:
        if getattr(found, name) != getattr(expected, name):
            raise ValueError(
                f"{REAL}={folder} holds a model with {name}={getattr(found, name)}, expected "
                f"{getattr(expected, name)}: name the folder of Mistral-7B-v0.1, or unset it to "
                "run random weights"
            )


def require_memory(settings: Settings) -> None:
    """Refuse a processor that would have to read the file again for every token."""
    if settings.where != "cpu":
        return
    dtype = getattr(torch, settings.dtype)
    needed = int(ROOM * weight_bytes(sizes.config_of(settings.model), dtype))
    if (free := psutil.virtual_memory().available) < needed:
        raise MemoryError(
            f"{free:,} bytes of memory are free and the weights need {needed:,}: close programs, "
            "or keep the model in 8 bits (load(…, bits=8))"
        )


def measure(settings: Settings | None = None) -> Measurement:
    """Write the weights if need be, and run them in a fresh process.

    Raises:
        FileNotFoundError, ValueError, OSError, MemoryError: see `weights` and `require_memory`.
        RuntimeError: if the process fails; with the end of what it said.
    """
    settings, clock = settings or Settings(), Clock()
    require_memory(settings)
    with weights(settings) as folder:
        found = _in_fresh_process(folder, settings)
    kept = (
        *("parameters", "dtype", "attention"),
        *("prompt tokens", "tokens", "engine's tokens", "written"),
    )
    real = {"weights": "real" if os.environ.get(REAL) else "random"}
    settled = asdict(settings) | real | {"device": settings.where} | {k: found[k] for k in kept}
    rows = [_row(name, unit, found) for name, unit in UNITS.items()]
    return Measurement("seven_b", finding(settled, rows), settled, rows, clock.seconds)


UNITS = {
    "loading": "s",
    "first prompt": "s",
    "prompt": "s",
    "token": "s",
    "limit": "s",
    "engine": "s",
    "engine's prompt": "s",
    "engine's token": "s",
    "engine's difference": "of the largest score",
    "cache": "bytes",
    "own after loading": "bytes",
    "own": "bytes",
    "mapped": "bytes",
    "own with the engine": "bytes",
    "mapped with the engine": "bytes",
}


def _row(name: str, unit: str, found: dict[str, Any]) -> Row:
    value = int(found[name]) if unit == "bytes" else float(f"{found[name]:.4g}")
    return {"what": name, "value": value, "unit": unit}


def _in_fresh_process(folder: Path, settings: Settings) -> dict[str, Any]:
    task = {
        "folder": str(folder),
        "device": settings.where,
        "prompt": settings.prompt,
        "steps": settings.steps,
    }
    command = [sys.executable, "-m", "mistral_edu.experiments.seven_b_run", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise RuntimeError(f"running the model in a fresh process failed: {said}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def finding(settled: dict[str, Any], rows: list[Row]) -> str:
    """How long a token takes, beside the limit of reading, and what it takes beside the file."""
    value = {row["what"]: row["value"] for row in rows}
    said = []
    for who, token, own in (
        ("the engine", "engine's token", "own with the engine"),
        ("the plain model", "token", "own"),
    ):
        share, beside = value["limit"] / value[token], value[own] / 2**30
        said.append(
            f"{who} needs {value[token]:.2f} seconds a token, {share:.0%} of the limit of reading, "
            f"and {beside:.1f} GiB beside the file"
        )
    return f"{settled['parameters']:,} parameters in {settled['dtype']}: {'; '.join(said)}"


def draw(measurement: Measurement, path: Path) -> None:
    """Draw the seconds of each part as bars, and the limit beside those of a token."""
    value = {row["what"]: row["value"] for row in measurement.rows}
    names = {
        "loading": "loading",
        "first prompt": f"first prompt of {measurement.settings['prompt tokens']} tokens",
        "prompt": "the same prompt again",
        "token": "one token",
        "engine": "making the engine",
        "engine's prompt": "the prompt, in the engine",
        "engine's token": "one token, in the engine",
    }
    parts = list(names)
    with sheet():
        figure = card(4.1, measurement.finding)
        axes = panel(figure, 2.2, 0.6, 4.6, 2.5)
        seconds = [value[part] for part in parts]
        axes.barh(range(len(parts)), seconds, 0.65, color=BLUE)
        for place, took in enumerate(seconds):
            said = f"{took:.2f} s" if took >= 0.1 else f"{1000 * took:.0f} ms"
            where: dict[str, Any] = {"textcoords": "offset points", "va": "center", "size": 8.5}
            axes.annotate(said, (took, place), (5, 0), color=QUIET, **where)
        for place in (parts.index("token"), parts.index("engine's token")):
            axes.plot([value["limit"]] * 2, [place - 0.4, place + 0.4], color=INK, lw=2)
        axes.set_yticks(range(len(parts)), names.values())
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.set_xlabel("seconds (log scale); mark: the limit of reading for a token")
        figure.savefig(path, format="png")
