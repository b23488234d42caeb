"""The speed-up diagram, measured: attention as it is written against attention as it is computed.

    native   softmax(q kᵀ / √D) v with the matrix in memory      seconds and bytes grow with T²
    others   the same, tile by tile: no matrix, and only the tiles that a window lets anyone see

One forward pass of a model, and the attention of one of its layers alone, for growing texts.

Source: Dao, "FlashAttention-2" (arXiv 2307.08691); the diagram in the documentation of Mistral in
Hugging Face's transformers compares the same two.
Lesson: 13_flash_attention.

Conventions
    All see the same weights and inputs, in turns; a figure is the median of its blocks.
    Before the clock starts, each is held against native attention in float32 on the same inputs:
    the largest difference, as a share of the largest output.
    Native attention, the oracle, computes in float32 whatever the type: in half precision there is
    more to gain. It is left out where its matrices would not fit into the memory that is free.
    On a processor the model is small; on a GPU it is the 7B in bfloat16, with random weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor

from mistral_edu import backends
from mistral_edu.bench.ceilings import name_of
from mistral_edu.bench.memory import extra_bytes
from mistral_edu.bench.sizes import config_of, random_ids
from mistral_edu.bench.timing import Spread, Work, finisher, interleaved, load_of_the_machine
from mistral_edu.config import MistralConfig
from mistral_edu.experiments.attention_figure import draw, finding
from mistral_edu.experiments.record import Clock, Measurement, Row, say
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.training.recipe import has_bfloat16

__all__ = ["draw", "finding", "measure"]

NATIVE = "eager"
LENGTHS = {"cpu": (256, 512, 1024, 2048, 4096, 8192), "cuda": (512, 2048, 4096, 8192, 16384, 32768)}
MATRICES = 6  # score matrices in float32 that native attention holds at once, and room for more


@dataclass(frozen=True)
class Place:
    """Where and in what type something is measured, and for how many blocks."""

    config: MistralConfig
    device: torch.device
    dtype: torch.dtype
    rounds: int


def measure(
    lengths: Sequence[int] | None = None,
    dtypes: Sequence[torch.dtype] | None = None,
    config: MistralConfig | None = None,
    rounds: int = 3,
    device: str | None = None,
) -> Measurement:
    """Time every backend that can run here on texts of growing length.

    Args:
        lengths: tokens of the texts; None goes by the device.
        dtypes: None takes bfloat16 on a GPU, float32 on a CPU, and both where it can multiply
            bfloat16.
        config: of the model; None goes by the device.
        rounds: blocks that count for each figure.
        device: "cpu" or "cuda"; None takes a GPU if there is one.
    """
    clock, before = Clock(), load_of_the_machine()
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config = config or config_of("7b" if where.type == "cuda" else "small229")
    lengths = lengths or LENGTHS[where.type]
    rows: list[Row] = []
    skipped: list[dict[str, Any]] = []
    for dtype in dtypes or default_types(where):
        place = Place(config, where, dtype, rounds)
        names, absent = present(place)
        skipped += absent
        with torch.device(where):
            model = MistralForCausalLM(config).to(dtype).eval()
        for length in lengths:
            able = [name for name in names if name != NATIVE or matrices_fit(place, length)]
            for name in set(names) - set(able):
                reason = "its matrices would not fit into the free memory"
                skipped.append(_skip(name, dtype, reason) | {"length": length})
            what = f"{name_of(dtype)}, {length:,} tokens, {' and '.join(able)}"
            say(f"{what}: the attention of one layer")
            rows += attention_rows(place, able, length)
            say(f"{what}: the whole model")
            rows += model_rows(place, model, able, length)
    settings = {
        "device": str(where),
        "lengths": list(lengths),
        "rounds": rounds,
        "model": config.to_dict(),
        "skipped": skipped,
        "load before": before,
        "load after": load_of_the_machine(),
    }
    return Measurement(
        "attention", finding(rows, config.sliding_window), settings, rows, clock.seconds
    )


def default_types(device: torch.device) -> list[torch.dtype]:
    """The types to measure in.

    >>> default_types(torch.device("cuda"))
    [torch.bfloat16]
    """
    if device.type == "cuda":
        return [torch.bfloat16]
    return [torch.float32, *([torch.bfloat16] if has_bfloat16() else [])]


def present(place: Place) -> tuple[list[str], list[dict[str, Any]]]:
    """The backends that can run, native first, and why the others cannot.

    >>> place = Place(config_of("small229"), torch.device("cpu"), torch.float32, 1)
    >>> names, absent = present(place)
    >>> names[:2], [one["backend"] for one in absent]
    (['eager', 'sdpa'], ['flex', 'flash'])
    """
    names, absent = [], []
    for name, backend in backends.REGISTRY.items():
        reason = backend.why_unavailable()
        reason = reason or backend.why_unfit(place.device, place.dtype, place.config.head_dim)
        if name == "flex" and place.device.type == "cpu":
            reason = "it is compiled on a GPU only; on a CPU it writes the matrix out"
        if reason:
            absent.append(_skip(name, place.dtype, reason) | {"length": None})
        else:
            names.append(name)
    return names, absent


def _skip(name: str, dtype: torch.dtype, reason: str) -> dict[str, Any]:
    return {"backend": name, "dtype": name_of(dtype), "reason": reason}


def matrices_fit(place: Place, length: int) -> bool:
    """Whether native attention to a text has the memory for its matrices."""
    needed = MATRICES * place.config.num_attention_heads * length**2 * 4
    if place.device.type == "cuda":
        return needed <= torch.cuda.mem_get_info(place.device)[0]
    return needed <= psutil.virtual_memory().available


@torch.no_grad()
def attention_rows(place: Place, names: Sequence[str], length: int) -> list[Row]:
    """The attention of one layer: time, memory, and how far from native attention in float32."""
    config, at = place.config, torch.arange(length, device=place.device)[None]
    heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
    generator = torch.Generator(place.device).manual_seed(length)
    q, k, v = (
        torch.randn(1, count, length, config.head_dim, generator=generator, device=place.device).to(
            place.dtype
        )
        for count in heads
    )
    window = config.sliding_window
    runs = {name: partial(backends.get(name), q, k, v, at, at, window) for name in names}
    far = (
        differences(
            runs, lambda: backends.eager_attention(q.float(), k.float(), v.float(), at, at, window)
        )
        if NATIVE in names
        else {}
    )
    extra = {name: extra_bytes(run, place.device) for name, run in runs.items()}
    return _rows(place, "attention", length, runs, far, extra)


def differences(
    runs: Mapping[str, Callable[[], Tensor]], oracle: Callable[[], Tensor]
) -> dict[str, float]:
    """How far each result is from the oracle's, as a share of the oracle's largest number."""
    exact = oracle()
    largest = exact.abs().max()
    return {
        name: float((run().float() - exact).abs().max() / largest) for name, run in runs.items()
    }


@torch.no_grad()
def model_rows(
    place: Place, model: MistralForCausalLM, names: Sequence[str], length: int
) -> list[Row]:
    """A forward pass of the whole model, scores of the last token only."""
    ids = random_ids(place.config, 1, length).to(place.device)

    def forward(name: str) -> Tensor:
        model.model.attention = name
        scores: Tensor = model(ids, use_cache=False, logits_to_keep=1).logits
        return scores

    runs = {name: partial(forward, name) for name in names}
    return _rows(place, "model", length, runs, {}, {})


def _rows(
    place: Place,
    what: str,
    length: int,
    runs: Mapping[str, Callable[[], Tensor]],
    far: Mapping[str, float],
    extra: Mapping[str, int | None],
) -> list[Row]:
    work = {name: Work(run) for name, run in runs.items()}
    blocks = interleaved(work, place.rounds, finisher(place.device))
    spreads = {
        name: Spread.of_blocks(many, lambda seconds: seconds) for name, many in blocks.items()
    }
    native = spreads[NATIVE].median if NATIVE in spreads else None
    return [
        {
            "dtype": name_of(place.dtype),
            "what": what,
            "length": length,
            "backend": name,
            "seconds": round(spread.median, 6),
            "low": round(spread.low, 6),
            "high": round(spread.high, 6),
            "speed_up": None if native is None else round(native / spread.median, 3),
            "difference": None if name not in far else float(f"{far[name]:.2g}"),
            "extra_bytes": extra.get(name),
            "others": spread.others,
        }
        for name, spread in spreads.items()
    ]
