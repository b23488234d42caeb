"""Steps that resume where they stopped: what each part found is on disk before the next begins.

    step = parts in order;   DIR/NAME.json = what the parts have said so far

A part that is done is not run again, one that failed or was interrupted is. Results belong to one
code on one machine: after a change of either, a step begins anew.
"""

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import mistral_edu

KIT = Path(__file__).parent
PACKAGE = Path(mistral_edu.__file__).parent
DONE, FAILED, SKIPPED = "done", "failed", "not here"


@dataclass(frozen=True)
class Setting:
    """What the person who runs the kit decides.

    Args:
        out: where results go; outside the repository.
        device: "cuda" or "cpu".
        small: sizes that a laptop manages in seconds.
        flash_source: the source archive of flash-attn, or None.
        head_dims, types: what the trimmed flash-attn is built for.
        seed: of all random weights and inputs.
    """

    out: Path
    device: str = "cuda"
    small: bool = False
    flash_source: Path | None = None
    head_dims: tuple[int, ...] = (128,)
    types: tuple[str, ...] = ("bf16",)
    seed: int = 0

    @property
    def on_gpu(self) -> bool:
        """Whether this run is about a GPU."""
        return self.device == "cuda"


class NotHere(Exception):
    """A part that cannot run on this machine; the message says why and what to do."""


class PartFailed(Exception):
    """A part that ran and found a fault; `found` is what it found."""

    def __init__(self, message: str, found: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.found = dict(found)


@dataclass(frozen=True)
class Step:
    """A named piece of work; `parts` lists its parts, each a function without arguments."""

    name: str
    about: str
    parts: Callable[[Setting], dict[str, Callable[[], Mapping[str, Any]]]]


@dataclass
class Outcome:
    """What became of one part."""

    status: str
    seconds: float
    found: dict[str, Any]
    reason: str = ""


def run_part(part: Callable[[], Mapping[str, Any]]) -> Outcome:
    """Run a part; whatever goes wrong is part of the outcome, but for an interrupt.

    >>> def nothing():
    ...     raise NotHere("no GPU here")
    >>> outcome = run_part(nothing)
    >>> outcome.status, outcome.reason
    ('not here', 'no GPU here')
    """
    start = time.perf_counter()
    found: dict[str, Any] = {}
    status, reason = DONE, ""
    try:
        found = dict(part())
    except NotHere as missing:
        status, reason = SKIPPED, str(missing)
    except PartFailed as fault:
        status, reason, found = FAILED, str(fault), fault.found
    except Exception as error:  # a kit goes on: the next part may tell why this one fell
        status, reason = FAILED, f"{type(error).__name__}: {error}"
        found = {"traceback": traceback.format_exc().splitlines()[-12:]}
    return Outcome(status, round(time.perf_counter() - start, 3), found, reason)


def run_step(step: Step, setting: Setting, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the parts of a step that are not done yet; return its state."""
    state = read_state(step.name, setting)
    for name, part in step.parts(setting).items():
        before = state["parts"].get(name)
        if before and before["status"] == DONE:
            say(f"{step.name} / {name}: done before")
            continue
        outcome = run_part(part)
        state["parts"][name] = asdict(outcome) | {"seed": setting.seed}
        state["date"] = now()
        write_json(state_file(step.name, setting), state)
        say(f"{step.name} / {name}: {outcome.status}, {outcome.seconds:.1f} s {outcome.reason}")
    return state


def state_file(step: str, setting: Setting) -> Path:
    """Where a step keeps its state."""
    return setting.out / f"{step}.json"


def read_state(step: str, setting: Setting) -> dict[str, Any]:
    """What a step has done so far, or a fresh state: with the same code, machine and setting."""
    fresh = {"step": step, "belongs_to": belongs_to(setting), "date": now(), "parts": {}}
    path = state_file(step, setting)
    if not path.is_file():
        return fresh
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return state if state["belongs_to"] == fresh["belongs_to"] else fresh


def belongs_to(setting: Setting) -> dict[str, Any]:
    """What results depend on: another value of any of these makes them stale."""
    return {
        "code": code_digest(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if setting.on_gpu else "cpu",
        "small": setting.small,
        "build": f"{setting.head_dims} {setting.types}",
    }


def code_digest() -> str:
    """A digest of the library and of this kit, as they lie on disk.

    >>> len(code_digest())
    16
    """
    digest = hashlib.sha256()
    code = [path for kind in ("*.py", "*.cpp", "*.h") for path in PACKAGE.rglob(kind)]
    for path in sorted([*code, *KIT.glob("*.py")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write whole or not at all: a run that is killed leaves the last whole state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def now() -> str:
    """Date and time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def failures(state: Mapping[str, Any]) -> list[str]:
    """The parts of a step that failed.

    >>> failures({"parts": {"a": {"status": "failed"}, "b": {"status": "done"}}})
    ['a']
    """
    return [name for name, part in state["parts"].items() if part["status"] == FAILED]
