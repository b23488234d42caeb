"""A product of our own: the C++ beside this file, compiled for the processor it is to run on.

    y = x Wᵀ for a few rows x, W in float32, bfloat16 or 8 bits, read once and in order

PyTorch's products are made for many rows. With one to eight, as in decoding, memory sets the pace,
and a loop that does nothing but read W evenly keeps up with it. It is forty lines, so that it can
be read; the compiler needs half a second for it, so that nothing has to be shipped or kept.

Source: Williams et al., "Roofline" (2009), for why reading is all that counts.
Lesson: 14_the_full_7b.

Conventions
    Linux with a C++ compiler (`c++`, or what the environment variable CXX names); elsewhere there
    is a reason instead, and the engine does with PyTorch's products.
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
TYPES = (torch.float32, torch.bfloat16, torch.int8)
MOST_SECONDS = 60  # for a compiler that hangs


def why_uncompiled(weight: Tensor) -> str | None:
    """Why a product with this weight cannot be compiled, or None.

    >>> why_uncompiled(torch.zeros(2, 2, dtype=torch.float64))
    'the compiled product takes float32, bfloat16 and int8, not float64'
    """
    if weight.dtype not in TYPES:
        name = str(weight.dtype).removeprefix("torch.")
        return f"the compiled product takes float32, bfloat16 and int8, not {name}"
    if weight.device.type != "cpu":
        return f"it is compiled for a CPU, and the weight is on {weight.device.type}"
    library = _library()
    return library if isinstance(library, str) else None


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
        name = str(weight.dtype).removeprefix("torch.")
        self._function = getattr(_library(), f"product_{name}")

    def __call__(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        return self.sums(x).to(x.dtype)

    def sums(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The product in float32."""
        outs, ins = self.weight.shape
        rows = x.reshape(-1, ins).float().contiguous()
        y = torch.empty(len(rows), outs)
        self._function(self._address, rows.data_ptr(), y.data_ptr(), ins, outs, len(rows))
        return y.view(*x.shape[:-1], outs)


@cache
def _library() -> ctypes.CDLL | str:
    """The compiled functions, or why there are none; once in a process."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if sys.platform != "linux" or not compiler:
        return f"it needs Linux and a C++ compiler, and found {compiler} on {sys.platform}"
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
    library = ctypes.CDLL(str(path))
    pointers, numbers = [ctypes.c_void_p] * 3, [ctypes.c_long] * 3
    for dtype in TYPES:
        function = getattr(library, "product_" + str(dtype).removeprefix("torch."))
        function.argtypes, function.restype = [*pointers, *numbers], None
    return library
