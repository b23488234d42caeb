"""Every attention backend on this device, against the definition in float64 and the oracle.

    |found − expected| ≤ bound · eps(type) · Σ p |v|,    and nothing where nothing is seen

Rounding an output moves it by eps / 2 of itself, rounding the probabilities by another eps / 2 of
Σ p |v|, and the bound leaves as much again for kernels that sum in another order. Inputs are drawn
anew at every run, from the seed in the result, and `failures` lists every case beyond its bound.
"""

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as library

from mistral_edu import backends, flash_kernels
from mistral_edu.flash_kernels import Kernels
from tests.attention_cases import Case, counted, ring
from tests.gpu.build_flash import built, use_built
from tests.gpu.steps import NotHere, PartFailed, Setting

BOUND = {torch.float32: 64.0, torch.float16: 2.0, torch.bfloat16: 2.0}  # in eps of Σ p |v|
ROUTES = ("eager", "sdpa", "flex", "flash package", "flash bundled")
TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
HEADS, SHARED = 8, 2


def parts(setting: Setting) -> dict[str, Callable[[], dict[str, Any]]]:
    """One part for each backend, type and head size."""
    return {
        f"{route}, {name}, head_dim {size}": partial(check, setting, route, dtype, size)
        for route in ROUTES
        for dtype, name in TYPES.items()
        for size in (64, 128)
        if not (route.startswith("flash") and dtype == torch.float32)
    }


def positions(windows: tuple[int, ...]) -> Iterator[Case]:
    """Three rows of different lengths: texts, chunks and single tokens, around every window."""
    for window in windows:
        for length in sorted({max(1, window - 1), window, window + 1, 3 * window}):
            rows = [counted(0, real, length) for real in (length, length // 2, 1)]
            texts = torch.tensor(rows)
            yield f"ragged text of {length}", texts, texts, window
            yield f"ragged text of {length}, no window", texts, texts, None
        for past in (window - 1, window, window + 1, 3 * window + 1):
            yield _chunk(past, max(1, window // 2), window)
            yield _token(past, window)


def _chunk(past: int, size: int, window: int) -> Case:
    pasts = (past, max(0, past - 2), 0)
    q = torch.tensor([counted(start, size, size) for start in pasts])
    held = torch.tensor([ring(start, min(past, window)) for start in pasts]).view(3, -1).long()
    return f"chunk of {size} after {past}", q, torch.cat([held, q], dim=1), window


def _token(past: int, window: int) -> Case:
    pasts = (past, max(0, past - 2), 0)
    held = torch.tensor([ring(start + 1, min(past + 1, window)) for start in pasts])
    return f"token {past} in a ring", torch.tensor(pasts)[:, None], held, window


def definition(
    q: Tensor, k: Tensor, v: Tensor, q_positions: Tensor, k_positions: Tensor, window: int | None
) -> tuple[Tensor, Tensor]:
    """Attention in float64, written anew from the rule; and Σ p |v|, which rounding scales with."""
    group = q.shape[1] // k.shape[1]
    q, k, v = q.double(), *(x.double().repeat_interleave(group, dim=1) for x in (k, v))
    i, j = q_positions[:, None, :, None], k_positions[:, None, None, :]
    seen = (j >= 0) & (j <= i) & (i - j < (i.max() + 2 if window is None else window))
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -1e300)
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp() * seen
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-300)
    return weights @ v, weights @ v.abs()


@torch.no_grad()
def check(setting: Setting, route: str, dtype: torch.dtype, head_dim: int) -> dict[str, Any]:
    """All cases through one backend.

    Raises:
        NotHere: if it cannot run here.
        PartFailed: with every case beyond its bound.
    """
    name, kernels = chosen(setting, route, dtype, head_dim)
    draw = Draw(torch.Generator().manual_seed(setting.seed), setting, dtype, head_dim)
    rows = []
    with forced(setting, kernels):
        for case in cases(setting, route):
            errors = errors_of(case, backends.REGISTRY[name].attend, draw)
            within = all(error <= BOUND[dtype] for error in errors)  # NaN is not
            named = zip(("against_float64", "against_oracle"), errors, strict=True)
            rows.append({"case": case[0], "window": case[3], "within": within, **dict(named)})
    failures = [row for row in rows if not row["within"]]
    found = {
        "by": kernels.name if kernels else f"PyTorch {torch.__version__}",
        "cases": len(rows),
        "bound": BOUND[dtype],
        "worst": max(rows, key=lambda row: row["against_float64"]),
        "failures": failures,
    }
    if failures:
        raise PartFailed(f"{len(failures)} of {len(rows)} cases are beyond the bound", found)
    return found


def cases(setting: Setting, route: str) -> list[Case]:
    """Those that a backend is given here.

    Flex has fewer: on a GPU it compiles a kernel for every case, which takes seconds.
    """
    windows = (1, 5) if setting.small else (129,) if route == "flex" else (1, 17, 128, 257)
    return list(positions(windows))[:: 3 if route == "flex" else 1]


@contextmanager
def forced(setting: Setting, kernels: Kernels | None) -> Iterator[None]:
    """Within the block flash is computed by these kernels; on a CPU Flex is not traced first."""
    untraced = not setting.on_gpu
    with (
        mock.patch.object(flash_kernels, "find_kernels", lambda: (kernels, "")),
        mock.patch.object(library, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", untraced),
    ):
        yield


@dataclass(frozen=True)
class Draw:
    """How inputs are drawn, and where they go."""

    generator: torch.Generator
    setting: Setting
    dtype: torch.dtype
    head_dim: int

    def __call__(self, heads: int, at: Tensor) -> Tensor:
        """Random numbers for the heads of three rows of tokens."""
        shape = (3, heads, at.shape[1], self.head_dim)
        x = torch.randn(shape, generator=self.generator)
        return x.to(self.setting.device, self.dtype)


def errors_of(case: Case, attend: backends.AttentionFunction, draw: Draw) -> tuple[float, float]:
    """The largest error of one case against float64, and against the float32 oracle."""
    _, q_positions, k_positions, window = case
    q, k, v = draw(HEADS, q_positions), draw(SHARED, k_positions), draw(SHARED, k_positions)
    at = (q_positions.to(q.device), k_positions.to(q.device), window)
    expected, size = definition(q, k, v, *at)
    if q.is_cuda and attend is backends.REGISTRY["flex"].attend:
        torch.compiler.reset()  # or the limit of compilations is met and Flex runs uncompiled
    found = attend(q, k, v, *at)
    oracle = backends.eager_attention(q.float(), k.float(), v.float(), *at)
    blind = size == 0
    if found.shape != expected.shape or found.dtype != draw.dtype or found[blind].any():
        return math.inf, math.inf
    unit = (torch.finfo(draw.dtype).eps * size).masked_fill(blind, 1.0)
    against = [float(((found - right).abs() / unit).max()) for right in (expected, oracle)]
    return against[0], against[1]


def chosen(
    setting: Setting, route: str, dtype: torch.dtype, head_dim: int
) -> tuple[str, Kernels | None]:
    """The backend of a route, and the kernels to hand it.

    Raises:
        NotHere: if the route does not exist on this machine.
    """
    name = route.split()[0]
    if name != "flash":
        return name, None
    if not setting.on_gpu:
        raise NotHere("flash needs a CUDA device")
    kernels = package(setting, dtype, head_dim) if route.endswith("package") else bundled()
    return name, kernels


def package(setting: Setting, dtype: torch.dtype, head_dim: int) -> Kernels:
    """The kernels of the flash-attn package: the one the kit built, or an installed one."""
    use_built(setting)
    limits = built(setting)
    if limits and (head_dim not in limits["head_dims"] or TYPES[dtype] not in limits["types"]):
        raise NotHere(f"the package was built for {limits}: see --flash-heads and --flash-types")
    try:
        return flash_kernels.package_kernels(importlib.import_module("flash_attn"))
    except ImportError as error:
        raise NotHere(f"{error}: run the step `build`, or install flash-attn") from error


def bundled() -> Kernels:
    """The kernels inside PyTorch."""
    operator = flash_kernels._find_operator()
    if operator is None:
        raise NotHere("this PyTorch was built without FlashAttention")
    return flash_kernels.bundled_kernels(operator)
