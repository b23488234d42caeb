"""Check and measure everything that needs an NVIDIA GPU, step by step, resuming where it stopped.

    python -m tests.gpu --out DIR --flash-source flash_attn-2.8.3.post2.tar.gz
    python -m tests.gpu --out DIR --only backends
    python -m tests.gpu --out DIR --list
    python -m tests.gpu --out DIR --device cpu --small     what can be tried without a GPU

DIR keeps each step's results (STEP.json), what was built, and summary.json, which holds them all.
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.gpu import backends_check, build_flash, engine_check, machine, model_check
from tests.gpu.steps import (
    PartFailed,
    Setting,
    Step,
    failures,
    now,
    read_state,
    run_step,
    write_json,
)

BENCH_SECONDS = 580
EXPERIMENTS = ("attention", "seven_b")
# The targets for the 7B, in parts that each take less than BENCH_SECONDS. Compiling takes minutes,
# and more than four models do not fit into 80 GB, so those two peers stand beside the engine alone.
USUAL = "--peers plain,engine,transformers,transformers-flash"
COMPILED = "--peers engine,transformers-compiled"
MISTRAL = "--peers engine,mistral-inference"
SEVEN_B = {
    "prompts": f"{USUAL} --only prefill --longest 4096",
    "batch 1": f"{USUAL} --only decode --batches 1",
    "batch 8": f"{USUAL} --only decode --batches 8",
    "batch 1, compiled": f"{COMPILED} --only decode --batches 1",
    "batch 8, compiled": f"{COMPILED} --only decode --batches 8",
    "mistral-inference": f"{MISTRAL} --only prefill,decode,cache --longest 4096",
    "curve": "--peers plain,engine --only curve --windows 1,2,4,8,16,32",
    "cache": f"{USUAL} --only cache",
    "loading": "--peers engine,transformers --only loading --longest 2048",
}


def bench(setting: Setting) -> dict[str, Callable[[], dict[str, Any]]]:
    """The project's own measurements, each in a process of its own."""
    if setting.small:
        return {"bench tiny": partial(run_bench, setting, "tiny", "--quick")}
    parts = {"bench small229": partial(run_bench, setting, "small229", "--quick")}
    parts |= {
        f"bench 7b, {name}": partial(run_bench, setting, "7b", options)
        for name, options in SEVEN_B.items()
    }
    return parts | {name: partial(run_experiment, setting, name) for name in EXPERIMENTS}


def run_bench(setting: Setting, model: str, options: str) -> dict[str, Any]:
    """Run `mistral-edu bench` for a model and keep what it wrote; raises as `measured_by`."""
    words = ["--model", model, "--dtype", "bfloat16", "--device", setting.device]
    return measured_by(setting, ["bench", *words, *options.split()], f"bench-{model}")


def run_experiment(setting: Setting, name: str) -> dict[str, Any]:
    """Run `mistral-edu experiment`, which takes the GPU by itself; raises as `measured_by`."""
    return measured_by(setting, ["experiment", name], name)


def measured_by(setting: Setting, words: list[str], name: str) -> dict[str, Any]:
    """Run a command of the project that writes NAME.json, and read that.

    Raises:
        PartFailed: if it ended with an error or wrote nothing.
    """
    target = setting.out / f"{name}.json"
    target.unlink(missing_ok=True)  # or a part could be given what another one has written
    done = subprocess.run(
        [sys.executable, "-m", "mistral_edu", *words, "--output", str(setting.out)],
        env=build_flash.environment(setting),
        capture_output=True,
        text=True,
        timeout=BENCH_SECONDS,
    )
    if done.returncode or not target.is_file():
        raise PartFailed(f"exit status {done.returncode}", {"said": done.stderr[-2000:]})
    report: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return report


STEPS = (
    Step("machine", "what the device is, and its limits", machine.parts),
    Step("build", "the trimmed flash-attn, from its archive", build_flash.parts),
    Step("backends", "every backend against float64 and the oracle", backends_check.parts),
    Step("model", "the 7B with random weights; tiny against a CPU", model_check.parts),
    Step("engine", "prefill and steps, recorded or not, against float64", engine_check.parts),
    Step("bench", "the project's benchmark and its experiments", bench),
)


def summary(setting: Setting) -> dict[str, Any]:
    """Everything that was found so far, with how it came about."""
    states = {step.name: read_state(step.name, setting) for step in STEPS}
    about = states["machine"]["parts"].get("versions", {}).get("found", machine.versions())
    return {
        "kit": "python -m tests.gpu",
        "command": " ".join(["python -m tests.gpu", *sys.argv[1:]]),
        "date": now(),
        "machine": about,
        "failed": {name: failures(state) for name, state in states.items()},
        "steps": states,
    }


def listed(setting: Setting) -> list[str]:
    """One line for each step: what it is about, and how far it has come."""
    lines = []
    for step in STEPS:
        parts = read_state(step.name, setting)["parts"]
        counts = [f"{sum(p['status'] == s for p in parts.values())} {s}" for s in _statuses(parts)]
        lines.append(f"{step.name:<10} {step.about:<46} {', '.join(counts) or 'not begun'}")
    return lines


def _statuses(parts: Mapping[str, Any]) -> list[str]:
    return sorted({part["status"] for part in parts.values()})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module; 0 if nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description="Check a GPU.")
    add_options(parser)
    options = parser.parse_args(arguments)
    setting = Setting(
        options.out.resolve(),
        options.device,
        options.small,
        options.flash_source and options.flash_source.resolve(),
        tuple(options.flash_heads),
        tuple(options.flash_types),
        options.seed,
    )
    if setting.on_gpu and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device; try --device cpu --small")
    if not setting.on_gpu and not setting.small:
        parser.error("--device cpu needs --small: the 7B is not for it")
    if options.list:
        print(*listed(setting), sep="\n")
        return 0
    states = []
    for step in STEPS:
        if not options.only or step.name in options.only:
            build_flash.use_built(setting)
            states.append(run_step(step, setting))
            write_json(setting.out / "summary.json", summary(setting))
    print(f"results: {setting.out / 'summary.json'}")
    return 1 if any(failures(state) for state in states) else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The kit's options."""
    parser.add_argument("--out", type=Path, required=True, help="a folder outside the repository")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes for a laptop")
    parser.add_argument("--only", action="append", choices=[step.name for step in STEPS])
    parser.add_argument("--list", action="store_true", help="show the steps and how far they are")
    parser.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(2**31),
        help="of all that is drawn, to repeat what a result names (a new one)",
    )
    parser.add_argument("--flash-source", type=Path, metavar="ARCHIVE")
    parser.add_argument("--flash-heads", type=int, nargs="+", default=[128], metavar="SIZE")
    parser.add_argument("--flash-types", nargs="+", default=["bf16"], choices=["bf16", "fp16"])


if __name__ == "__main__":
    sys.exit(main())
