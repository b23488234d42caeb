"""flash-attn's sources, trimmed to what the 7B needs: forward, one head size, one type.

    4 kernel files for each head size and type + the bindings, of 72 + 1

What is left out is refused at run time, not computed wrongly: a pinned switch would otherwise run
the kernel of another size. Every edit must find its place exactly once, so that sources that have
changed stop the build instead of spoiling it.

Source: the archive of flash-attn 2.8.3.post2, csrc/flash_attn.
"""

import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TYPES = {"bf16": "cutlass::bfloat16_t", "fp16": "cutlass::half_t"}
HEAD_DIMS = (32, 64, 96, 128, 192, 256)  # those that the kernels are written for
# Not _LOCAL: that is the sliding window.
LEFT_OUT = ("BACKWARD", "DROPOUT", "ALIBI", "SOFTCAP", "UNEVEN_K")

SWITCHES, BINDINGS = "csrc/flash_attn/src/static_switch.h", "csrc/flash_attn/flash_api.cpp"
STUB = "csrc/flash_attn/src/no_backward.cu"
HEADDIM = "#define HEADDIM_SWITCH(HEADDIM, ...)"
FP16 = "#define FP16_SWITCH(COND, ...)"
FORWARD = (
    "void run_mha_fwd(Flash_fwd_params &params, cudaStream_t stream, "
    "bool force_split_kernel=false) {\n"
)


class SourceChanged(Exception):
    """The sources are not those that the edits were written for."""


@dataclass(frozen=True)
class Edit:
    """Put `new` in the place of `old`, which must be in `file` once."""

    file: str
    old: str
    new: str


def apply(edits: Sequence[Edit], root: Path) -> None:
    """Edit the files under `root`: all of them, or none if one edit does not fit.

    Raises:
        SourceChanged: naming every edit that does not fit.
    """
    texts, problems = {}, []
    for edit in edits:
        path = root / edit.file
        if edit.file not in texts:
            texts[edit.file] = path.read_text(encoding="utf-8") if path.is_file() else ""
        times = texts[edit.file].count(edit.old)
        if times != 1:
            problems.append(f"{edit.file}: {edit.old.strip()!r} is there {times} times, expected 1")
        texts[edit.file] = texts[edit.file].replace(edit.old, edit.new)
    if problems:
        listed = "\n  ".join(problems)
        raise SourceChanged(
            f"{root} is not the flash-attn that this kit trims (2.8.3.post2):\n  {listed}"
        )
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")


def edits_for(head_dims: Sequence[int], types: Sequence[str]) -> list[Edit]:
    """Pin the switches, and refuse what is not built before they are asked.

    The stock macros stay in the file under another name, which nobody uses.
    """
    edits = [
        Edit(
            SWITCHES,
            HEADDIM,
            _pinned_heads(head_dims) + HEADDIM.replace("HEADDIM_S", "STOCK_HEADDIM_S"),
        ),
        Edit(BINDINGS, FORWARD, FORWARD + _guard(head_dims, types)),
    ]
    if len(types) == 1:
        pinned = (
            f"#define FP16_SWITCH(COND, ...) \\\n  [&] {{ using elem_type = {TYPES[types[0]]}; "
        )
        pinned += "return __VA_ARGS__(); }()\n\n"
        edits.append(Edit(SWITCHES, FP16, pinned + FP16.replace("FP16_S", "STOCK_FP16_S")))
    return edits


def _pinned_heads(head_dims: Sequence[int]) -> str:
    lines = ["#define HEADDIM_SWITCH(HEADDIM, ...) [&] {"]
    for size in head_dims[:-1]:
        lines.append(f"    if (HEADDIM == {size}) {{")
        lines.append(f"      constexpr static int kHeadDim = {size}; return __VA_ARGS__(); }}")
    lines.append(f"    constexpr static int kHeadDim = {head_dims[-1]}; return __VA_ARGS__();")
    return " \\\n".join([*lines, "  }()"]) + "\n\n"


def _guard(head_dims: Sequence[int], types: Sequence[str]) -> str:
    is_built = " || ".join(f"params.d == {size}" for size in head_dims)
    if len(types) == 1:
        is_built = f"({is_built}) && {'' if types[0] == 'bf16' else '!'}params.is_bf16"
    built = f"head sizes {', '.join(map(str, head_dims))} in {' and '.join(types)}"
    return f'    TORCH_CHECK({is_built}, "this flash-attn was built for {built} only");\n'


def stub(head_dims: Sequence[int], types: Sequence[str]) -> str:
    """Backward functions that are never called: without them the library does not import."""
    headers = ["<cuda_runtime.h>", '"flash.h"', "<cutlass/bfloat16.h>", "<cutlass/half.h>"]
    lines = [*(f"#include {name}" for name in headers), "namespace FLASH_NAMESPACE {"]
    for size in head_dims:
        for kind in types:
            for causal in ("false", "true"):
                lines.append(
                    f"template<> void run_mha_bwd_<{TYPES[kind]}, {size}, {causal}>"
                    "(Flash_bwd_params &, cudaStream_t) {}"
                )
    return "\n".join([*lines, "}", ""])


def units(head_dims: Sequence[int], types: Sequence[str]) -> list[str]:
    """The files to compile, the slow ones first.

    >>> len(units((128,), ("bf16",)))
    6
    """
    kernels = [
        f"csrc/flash_attn/src/flash_fwd{split}_hdim{size}_{kind}{causal}_sm80.cu"
        for split in ("_split", "")
        for size in head_dims
        for kind in types
        for causal in ("", "_causal")
    ]
    return [*kernels, BINDINGS, STUB]


def prepare(archive: Path, root: Path, head_dims: Sequence[int], types: Sequence[str]) -> None:
    """Unpack the archive into `root` and trim it; nothing is left there if that fails.

    Raises:
        SourceChanged: for another flash-attn, or one that lacks a file to compile.
    """
    partial = root.with_name(f"{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(partial, filter="data")
    (inside,) = (path for path in partial.iterdir() if path.is_dir())
    apply(edits_for(head_dims, types), inside)
    (inside / STUB).write_text(stub(head_dims, types), encoding="utf-8")
    missing = [name for name in units(head_dims, types) if not (inside / name).is_file()]
    if missing:
        raise SourceChanged(f"{archive} has no {', '.join(missing)}")
    shutil.rmtree(root, ignore_errors=True)
    inside.rename(root)
    shutil.rmtree(partial)
