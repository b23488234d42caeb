"""One run: weights on disk, everyone loaded, the same logits, then the measurements.

    limits → who is here → do they agree? → prompts → decoding → memory → fresh processes

Lesson: 14_the_full_7b.

Conventions
    One type after the other; within a type all peers are in memory at once, for they take turns.
    Limits are measured anew for each type, right before it.
"""

import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mistral_edu.bench import (
    agreement,
    ceilings,
    loading,
    measures,
    memory,
    report,
    results,
    roster,
    sizes,
)
from mistral_edu.bench.attendance import check, open_all, roll
from mistral_edu.bench.ceilings import name_of
from mistral_edu.bench.measures import Bench, Plan
from mistral_edu.bench.peers import Material, choose
from mistral_edu.bench.timing import Spread, load_of_the_machine
from mistral_edu.experiments.record import Clock, Measurement, Row

QUICK = Plan(prompts=(512,), windows=(1, 2, 4), rounds=3, steps=4, starts=1)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Args:
        model: the name of a size.
        dtypes: names of types.
        peers: names, or None for all that are not on request.
        quick: fewer blocks and shorter texts, to see that all is well.
        longest: tokens of the longest prompt; None means 32,768.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
        only: some of `measures.ALL`, or None for all of them.
        batches: rows to decode at once; None means 1 and 8.
        windows: lengths of the curve, in windows; None means 1, 2, 4 … 64.

    Raises:
        ValueError: when asked for the plan, if `only` names what is not measured.
    """

    model: str = "small229"
    dtypes: tuple[str, ...] = ("float32",)
    peers: tuple[str, ...] | None = None
    quick: bool = False
    longest: int | None = None
    device: str | None = None
    only: tuple[str, ...] | None = None
    batches: tuple[int, ...] | None = None
    windows: tuple[int, ...] | None = None

    @property
    def where(self) -> torch.device:
        """The device to measure on."""
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def plan(self) -> Plan:
        """How much is measured.

        >>> Settings(longest=4096).plan.prompts, Settings(quick=True).plan.prompts
        ((512, 2048, 4096), (512,))
        """
        plan = QUICK if self.quick else Plan()
        if unknown := sorted(set(self.only or ()) - set(measures.ALL)):
            known = ", ".join(measures.ALL)
            raise ValueError(f"only={unknown[0]!r} is not measured: choose from {known}")
        given: dict[str, Any] = {
            "only": self.only,
            "batches": self.batches,
            "windows": self.windows,
        }
        if self.longest is not None:
            shorter = [length for length in plan.prompts if length < self.longest]
            given["prompts"] = (*shorter, self.longest)
        return replace(plan, **{key: value for key, value in given.items() if value is not None})

    @property
    def command(self) -> str:
        """The command line that measures this again.

        >>> Settings(dtypes=("float32", "bfloat16"), quick=True).command
        'mistral-edu bench --model small229 --dtype float32,bfloat16 --quick'
        """
        words = ["mistral-edu bench", f"--model {self.model}", f"--dtype {','.join(self.dtypes)}"]
        for name in ("peers", "only", "batches", "windows"):
            given = getattr(self, name)
            words += [f"--{name} {','.join(map(str, given))}"] if given else []
        words += [f"--longest {self.longest}"] if self.longest else []
        words += [f"--device {self.device}"] if self.device else []
        return " ".join([*words, *(["--quick"] if self.quick else [])])


@dataclass
class Part:
    """What one type gave: rows, and what the record says about them."""

    rows: list[Row]
    limits: dict[str, Any]
    peers: list[dict[str, Any]]
    agreements: list[dict[str, Any]]
    failures: list[dict[str, str]]


def measure(settings: Settings, plan: Plan | None = None) -> Measurement:
    """Measure everything; minutes with `quick`, up to an hour without.

    Args:
        settings: what.
        plan: how much, instead of what the settings say.

    Raises:
        ValueError: for names that are unknown.
    """
    config, clock, before = sizes.config_of(settings.model), Clock(), load_of_the_machine()
    plan = plan or settings.plan
    parts = {}
    for name in settings.dtypes:
        dtype = type_named(name)
        with tempfile.TemporaryDirectory() as scratch:
            parts[name] = _one_type(settings, plan, dtype, Path(scratch))
    rows = [row for part in parts.values() for row in part.rows]
    settled = asdict(settings) | {
        "device": str(settings.where),
        "threads": torch.get_num_threads(),
        "window": config.sliding_window,
        "plan": asdict(plan),
        "limits": {name: part.limits for name, part in parts.items()},
        "peers": [peer for part in parts.values() for peer in part.peers],
        "agreement": [one for part in parts.values() for one in part.agreements],
        "failures": [one for part in parts.values() for one in part.failures],
        "load before": before,
        "load after": load_of_the_machine(),
    }
    name = f"bench-{settings.model}"
    return Measurement(
        name, report.finding(rows), settled, rows, clock.seconds, command=settings.command
    )


def type_named(name: str) -> torch.dtype:
    """A type to measure in.

    >>> type_named("bfloat16")
    torch.bfloat16
    """
    for dtype in agreement.TOLERANCES:
        if name_of(dtype) == name:
            return dtype
    known = ", ".join(map(name_of, agreement.TOLERANCES))
    raise ValueError(f"dtype={name!r} is not measured: choose from {known}")


def _say(dtype: torch.dtype, text: str) -> None:
    print(f"{name_of(dtype)}: {text}", file=sys.stderr, flush=True)


def _one_type(settings: Settings, plan: Plan, dtype: torch.dtype, scratch: Path) -> Part:
    device, say = settings.where, partial(_say, dtype)
    chosen = choose(roster.PEERS, settings.peers, device, dtype)
    say("limits of the machine")
    limits = ceilings.measure([dtype], device, settings.quick)
    say("weights")
    folder = scratch / f"{settings.model}-{name_of(dtype)}"
    sizes.write_weights(settings.model, folder, dtype, device)
    material = Material(folder, dtype, device, torch.get_num_threads(), scratch)
    opened = open_all(chosen, material, say)
    agreements = check(chosen, opened, material, say)
    bench = Bench(opened, material.config, dtype, device, limits, plan, say)
    rows = in_memory(bench)
    for peer in opened.values():
        peer.close()
    material.models.clear()
    memory.give_back(device)
    rows += in_fresh_processes(bench, replace(material, models={}))
    return Part(
        rows,
        limits.as_json(),
        roll(chosen, dtype),
        [{"dtype": name_of(dtype)} | one.as_json() for one in agreements],
        [{"dtype": name_of(dtype)} | one for one in bench.failures],
    )


def in_memory(bench: Bench) -> list[Row]:
    """All that the plan measures with all peers in memory."""
    plan = bench.plan
    rows: list[Row] = []
    if "prefill" in plan.only:
        rows += measures.prefill(bench, measures.SHORT, results.FIRST)
        for tokens in plan.prompts:
            rows += measures.prefill(bench, tokens)
    if "decode" in plan.only:
        for batch in plan.batches:
            for state, context in measures.contexts(bench.config).items():
                rows += measures.decode(bench, batch, state, context)
    rows += measures.curve(bench) if "curve" in plan.only else []
    return rows + (measures.cache_held(bench) if "cache" in plan.only else [])


def in_fresh_processes(bench: Bench, material: Material) -> list[Row]:
    """Loading and peak memory, each peer in processes of its own, in turns."""
    prompt = bench.plan.usual
    seen: dict[str, list[dict[str, float]]] = {}
    for number in range(bench.plan.starts if "loading" in bench.plan.only else 0):
        for name in bench.peers:
            bench.say(f"fresh process {number + 1}: {name}")
            try:
                seen.setdefault(name, []).append(loading.in_fresh_process(name, material, prompt))
            except RuntimeError as problem:
                why = {"peer": name, "case": "fresh process", "reason": str(problem)[:300]}
                bench.failures.append(why)
    quantities = {
        "ready": results.READY,
        "first token": results.COLD,
        "loading peak": results.LOADING_PEAK,
        "peak": results.PEAK,
    }
    rows: list[Row] = []
    for key, quantity in quantities.items():
        found = {name: Spread.of([one[key] for one in many]) for name, many in seen.items() if many}
        rows += results.rows_of(quantity, bench.case(1, prompt, "fresh process"), found)
    return rows
