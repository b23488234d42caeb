"""Build the trimmed flash-attn with nvcc, in parallel, outside the repository.

    DIR/flash-source  →  DIR/objects-KEY/*.o  →  DIR/flash/{flash_attn, flash_attn_2_cuda.*.so}

An object that is there is not compiled again: it is renamed into place when it is whole, and KEY
stands for all that decides what is in it. No ninja and no setup.py: one command for each file.
"""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils import cpp_extension

from mistral_edu import flash_kernels
from tests.gpu.flash_source import HEAD_DIMS, LEFT_OUT, TYPES, edits_for, prepare, units
from tests.gpu.steps import NotHere, PartFailed, Setting, write_json

MODULE = "flash_attn_2_cuda"
HOST_FLAGS = ["-O3", "-std=c++17", "-Xcompiler", "-fPIC"]
KERNEL_FLAGS = [
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_HALF2_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "--expt-relaxed-constexpr",
    "--expt-extended-lambda",
    "--use_fast_math",
]
LIBRARIES = ["-lc10", "-lc10_cuda", "-ltorch_cpu", "-ltorch_cuda", "-ltorch", "-ltorch_python"]


def parts(setting: Setting) -> dict[str, Callable[[], dict[str, Any]]]:
    """The parts of this step."""
    return {
        "sources": lambda: sources(setting),
        "objects": lambda: objects(setting),
        "library": lambda: library(setting),
        "import": lambda: imported(setting),
    }


def flash_folder(setting: Setting) -> Path:
    """Where the built package is: a folder for `sys.path`."""
    return setting.out / "flash"


def built(setting: Setting) -> dict[str, Any] | None:
    """What the built package is for, or None if the kit has built none."""
    path = flash_folder(setting) / "built.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def use_built(setting: Setting) -> None:
    """Let `import flash_attn` find the built package, if there is one."""
    folder = str(flash_folder(setting))
    if built(setting) and folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        flash_kernels.find_kernels.cache_clear()


def sources(setting: Setting) -> dict[str, Any]:
    """Unpack and trim the archive."""
    require_tools(setting)
    wrong = [size for size in setting.head_dims if size not in HEAD_DIMS]
    wrong += [kind for kind in setting.types if kind not in TYPES]
    if wrong or not setting.head_dims or not setting.types:
        raise ValueError(f"cannot build for {wrong}: choose from {HEAD_DIMS} and {tuple(TYPES)}")
    archive = setting.flash_source
    if archive is None or not archive.is_file():
        raise NotHere("give the archive: --flash-source flash_attn-2.8.3.post2.tar.gz")
    prepare(archive, setting.out / "flash-source", setting.head_dims, setting.types)
    return {"archive": archive.name, "head_dims": setting.head_dims, "types": setting.types}


def require_tools(setting: Setting) -> None:
    """Refuse where the kernels cannot be compiled."""
    if not setting.on_gpu:
        raise NotHere("flash-attn is for NVIDIA devices")
    if cpp_extension.CUDA_HOME is None or not nvcc().is_file():
        raise NotHere("no nvcc here: install the CUDA toolkit that PyTorch was built for")


def nvcc() -> Path:
    """The compiler of the toolkit that PyTorch finds."""
    return Path(str(cpp_extension.CUDA_HOME), "bin", "nvcc")


def objects(setting: Setting) -> dict[str, Any]:
    """Compile every unit that is not compiled yet, as many at once as there are cores.

    Raises:
        PartFailed: with what the compiler said of each unit that does not compile.
    """
    require_tools(setting)
    root, target = setting.out / "flash-source", objects_folder(setting)
    target.mkdir(parents=True, exist_ok=True)
    names = units(setting.head_dims, setting.types)
    compile_one = partial(compiled, root, target, architecture())
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as workers:
        results = dict(zip(names, workers.map(compile_one, names), strict=True))
    broken = {name: said for name, (_, said) in results.items() if said}
    if broken:
        raise PartFailed(f"{len(broken)} of {len(names)} units do not compile", broken)
    return {"seconds": {name: seconds for name, (seconds, _) in results.items()}}


def objects_folder(setting: Setting) -> Path:
    """Where objects are kept that were made of these sources, by these commands, for this torch."""
    decides = [edits_for(setting.head_dims, setting.types), KERNEL_FLAGS, HOST_FLAGS, LEFT_OUT]
    decides += [torch.__version__, sys.version_info[:2], architecture()]
    return setting.out / f"objects-{hashlib.sha256(repr(decides).encode()).hexdigest()[:12]}"


def architecture() -> str:
    """The device's, as nvcc names it: 90 for an H100 or H200."""
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def compiled(root: Path, target: Path, code: str, name: str) -> tuple[float, str]:
    """Compile one unit; return the seconds it took, and what the compiler said if it failed."""
    whole = target / f"{Path(name).stem}.o"
    if whole.is_file():
        return 0.0, ""
    unfinished = whole.with_suffix(".partial.o")
    start = time.perf_counter()
    command = compile_command(root, name, unfinished, code)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return time.perf_counter() - start, (done.stdout + done.stderr)[-2000:]
    unfinished.rename(whole)
    return round(time.perf_counter() - start, 1), ""


def compile_command(root: Path, name: str, output: Path, code: str) -> list[str]:
    """What to run for one unit."""
    code = f"arch=compute_{code},code=sm_{code}"
    own = [root / "csrc/flash_attn", root / "csrc/flash_attn/src", root / "csrc/cutlass/include"]
    folders = [*map(str, own), *cpp_extension.include_paths("cuda"), sysconfig.get_path("include")]
    defines = [f"-DFLASHATTENTION_DISABLE_{what}" for what in LEFT_OUT]
    defines += [f"-DTORCH_EXTENSION_NAME={MODULE}", "-DTORCH_API_INCLUDE_EXTENSION_H"]
    flags = [*HOST_FLAGS, *KERNEL_FLAGS, "-gencode", code, *defines, *(f"-I{x}" for x in folders)]
    return [str(nvcc()), "-c", str(root / name), "-o", str(output), *flags]


def library(setting: Setting) -> dict[str, Any]:
    """Link the objects and put the package beside them."""
    require_tools(setting)
    folder = flash_folder(setting)
    package = setting.out / "flash-source" / "flash_attn"
    shutil.copytree(package, folder / "flash_attn", dirs_exist_ok=True)
    write_metadata(folder)
    target = folder / f"{MODULE}{sysconfig.get_config_var('EXT_SUFFIX')}"
    names = units(setting.head_dims, setting.types)
    inputs = [str(objects_folder(setting) / f"{Path(name).stem}.o") for name in names]
    places = [f"-L{path}" for path in cpp_extension.library_paths("cuda")]
    command = [str(nvcc()), "-shared", "-cudart", "shared", *inputs, "-o", str(target), *places]
    done = subprocess.run([*command, *LIBRARIES], capture_output=True, text=True)
    if done.returncode:
        raise PartFailed("the library does not link", {"said": (done.stdout + done.stderr)[-2000:]})
    built = {"head_dims": setting.head_dims, "types": setting.types}
    write_json(folder / "built.json", built)
    return {"bytes": target.stat().st_size} | built


def write_metadata(folder: Path) -> None:
    """Say what the package in a folder is, as pip would: `transformers` asks nothing else.

    Raises:
        PartFailed: if the package does not say which version it is.
    """
    source = (folder / "flash_attn" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    if version is None:
        raise PartFailed("flash_attn/__init__.py names no version", {})
    about = folder / f"flash_attn-{version[1]}.dist-info"
    about.mkdir(exist_ok=True)
    fields = f"Metadata-Version: 2.1\nName: flash-attn\nVersion: {version[1]}\n"
    (about / "METADATA").write_text(fields, encoding="utf-8")
    (about / "top_level.txt").write_text(f"flash_attn\n{MODULE}\n", encoding="utf-8")


def imported(setting: Setting) -> dict[str, Any]:
    """Import the package in a new process: a missing symbol would show only then."""
    require_tools(setting)
    program = "import flash_attn, flash_attn_2_cuda as c; print(flash_attn.__version__, dir(c))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(setting),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PartFailed("the package does not import", {"said": done.stderr[-2000:]})
    return {"said": done.stdout.strip()}


def environment(setting: Setting) -> dict[str, str]:
    """The environment of a process that shall find the built package."""
    paths: Sequence[str] = [str(flash_folder(setting)), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
