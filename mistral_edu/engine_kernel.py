"""Compiled for the processor at hand: a product of few rows, and a whole step of decoding.

    y = x Wᵀ for a few rows x, W in float32, bfloat16 or 8 bits, read once

PyTorch's products are made for many rows. With one to eight, as in decoding, memory sets the pace,
and a loop that does nothing but read W evenly keeps up with it (`engine_product.h`; with a matrix
unit for more rows, `engine_tiles.h`). The rest of a layer is small (`engine_rows.h`), but it is
thirty calls: for a small model they are what a step consists of. In `engine_kernel.cpp` they are
one. All are short, so that they can be read; the compiler needs a second or two for them, so that
nothing has to be shipped or kept.

Source: Williams et al., "Roofline" (2009), for why reading is all that counts.
Lesson: 14_the_full_7b.

Conventions
    Linux with a C++ compiler (`c++`, or what the environment variable CXX names); elsewhere there
    is a reason instead, and the engine makes do with PyTorch.
    It runs on PyTorch's own threads: the library is linked without OpenMP, and the loader finds
    PyTorch's. A second set of threads would wait in the way of the first.
    Sums are in float32 and the result in the type of `x`, as in PyTorch's products.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".cpp")
STEP_TYPES = (torch.float32, torch.bfloat16)
TYPES = (*STEP_TYPES, torch.int8)
ROWS = {  # in engine_rows.h
    "norm": [*[ctypes.c_void_p] * 3, *[ctypes.c_long] * 2, ctypes.c_float],
    "turn": [*[ctypes.c_void_p] * 4, *[ctypes.c_long] * 5],
    "gate": [*[ctypes.c_void_p] * 2, *[ctypes.c_long] * 2],
}
MOST_SECONDS = 60  # for a compiler that hangs


def why_uncompiled(weight: Tensor) -> str | None:
    """Why a product with this weight cannot be compiled, or None.

    >>> why_uncompiled(torch.zeros(2, 2, dtype=torch.float64))
    'what is compiled takes float32, bfloat16 and int8, not float64'
    """
    if weight.dtype not in TYPES:
        return f"what is compiled takes float32, bfloat16 and int8, not {name_of(weight.dtype)}"
    if weight.device.type != "cpu":
        return f"it is compiled for a CPU, and the weight is on {weight.device.type}"
    found = library()
    return found if isinstance(found, str) else None


class CompiledProduct:
    """x Wᵀ by the compiled loop; W may change in place.

    Args:
        weight: (out, in) without gaps.

    Raises:
        ValueError: where there is no such product (see `why_uncompiled`).

    >>> weight, x = torch.eye(3)[:2], torch.tensor([[1.0, 2.0, 3.0]])
    >>> if why_uncompiled(weight) is None:
    ...     assert torch.equal(CompiledProduct(weight)(x), x[:, :2])
    """

    def __init__(self, weight: Shaped[Tensor, "out in"]) -> None:
        if reason := why_uncompiled(weight):
            raise ValueError(f"there is no compiled product: {reason}; use functional.linear")
        self.weight = weight.contiguous()
        self._address = self.weight.data_ptr()
        self._function = getattr(library(), f"product_{name_of(weight.dtype)}")

    def __call__(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        return self.sums(x).to(x.dtype)

    def sums(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The product in float32."""
        outs, ins = self.weight.shape
        rows = x.reshape(-1, ins).float().contiguous()
        y = torch.empty(len(rows), outs, dtype=torch.float32, device="cpu")
        self._function(self._address, rows.data_ptr(), y.data_ptr(), ins, outs, len(rows))
        return y.view(*x.shape[:-1], outs)


@cache
def library() -> ctypes.CDLL | str:
    """The compiled functions, or why there are none; once in a process.

    >>> isinstance(library(), (str, ctypes.CDLL))
    True
    """
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if sys.platform != "linux":
        return f"compiled code needs Linux, and this is {sys.platform}; nothing else does"
    if not compiler:
        return (
            "no C++ compiler found; one (for example `apt install g++`) makes the engine faster, "
            "nothing needs it"
        )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        try:
            return _loaded(_compiled(compiler, Path(scratch)))
        except subprocess.SubprocessError as problem:
            said = getattr(problem, "stderr", None) or str(problem)
            return f"{compiler} failed: {said.strip()[:300]}"
        except OSError as problem:  # the compiler cannot be run, or OpenMP is not PyTorch's
            return str(problem)


def _compiled(compiler: str, scratch: Path) -> Path:
    part, whole = scratch / "kernel.o", scratch / "kernel.so"
    options = ["-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-c"]
    for command in (
        [*options, str(SOURCE), "-o", str(part)],
        ["-shared", str(part), "-o", str(whole)],
    ):
        subprocess.run(
            [*compiler.split(), *command],
            check=True,
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
        )
    return whole


def _loaded(path: Path) -> ctypes.CDLL:
    functions = ctypes.CDLL(str(path))
    for dtype in TYPES:
        product = getattr(functions, f"product_{name_of(dtype)}")
        product.argtypes, product.restype = [*[ctypes.c_void_p] * 3, *[ctypes.c_long] * 3], None
    for dtype in STEP_TYPES:
        for weights in (dtype, torch.int8):
            step = getattr(functions, step_name(dtype, weights))
            step.argtypes = [ctypes.c_void_p, ctypes.c_long, *[ctypes.c_void_p] * 4]
            step.restype = None
        for name, arguments in ROWS.items():
            rows = getattr(functions, f"{name}_{name_of(dtype)}")
            rows.argtypes, rows.restype = arguments, None
    return functions


def step_name(dtype: torch.dtype, weights: torch.dtype) -> str:
    """What the step is called for norms and ring of one type, and matrices of another.

    >>> step_name(torch.bfloat16, torch.int8)
    'step_bfloat16_int8'
    """
    return f"step_{name_of(dtype)}_{name_of(weights)}"


def name_of(dtype: torch.dtype) -> str:
    """A type's name without "torch.".

    >>> name_of(torch.int8)
    'int8'
    """
    return str(dtype).removeprefix("torch.")
