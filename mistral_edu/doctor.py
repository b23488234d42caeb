"""What `mistral-edu doctor` says: the machine, the versions, and what of the course can run on it.

Sizes are in GB of 10⁹ bytes. Nothing is downloaded, and nothing is allocated: the 7B is built on
PyTorch's meta device, where tensors have shapes and no memory.
Lesson: 00_map_and_toolbox.
"""

import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
import torch
from jupyter_core.paths import jupyter_path
from packaging.requirements import Requirement

from mistral_edu import backends, paths
from mistral_edu.config import MistralConfig
from mistral_edu.engine_kernel import why_uncompiled

GB = 10**9
SHOWN = ("torch", "numpy", "safetensors", "sentencepiece", "mistral-common", "huggingface_hub")
SHOWN_LAB = ("jupyterlab", "ipywidgets", "matplotlib", "transformers", "flash-attn")
WIDGET_MANAGER = Path("@jupyter-widgets", "jupyterlab-manager")  # the browser's half of ipywidgets


@dataclass(frozen=True)
class Need:
    """Bytes one way of holding Mistral-7B takes: its weights, and its cache for one sequence."""

    name: str
    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache


def report() -> tuple[str, list[str]]:
    """Everything `doctor` prints, and the problems that would stop the course.

    Returns:
        The text, and one sentence for each problem (an empty list on a healthy machine).

    >>> text, problems = report()
    >>> "Attention backends" in text
    True
    """
    place, free = free_memory()
    widgets, widget_problem = widget_match()
    model, model_problem = tiny_model()
    problems = [problem for problem in (widget_problem, model_problem) if problem]
    lines = _section("This machine", machine())
    lines += _section("Versions", versions())
    lines += _section("Attention backends", attention())
    lines += _section("Engine", engine())
    lines += _section("Mistral-7B here", seven_billion(place, free))
    lines += _section("The course", [("widgets", widgets), ("tiny model", model)])
    verdict = "Everything the lessons need is here."
    lines += [f"Fix this: {problem}" for problem in problems] or [verdict]
    return "\n".join(lines), problems


def engine() -> list[tuple[str, str]]:
    """How the engine makes a step on this machine's processor, as (name, value) rows.

    >>> [name for name, _ in engine()]
    ['on a processor']
    """
    reason = why_uncompiled(torch.zeros(1, 1))
    how = f"one call of PyTorch after another: {reason}" if reason else "compiled here, in one call"
    return [("on a processor", how)]


def _section(title: str, rows: list[tuple[str, str]]) -> list[str]:
    return [title, *(f"  {name:<16} {value}" for name, value in rows), ""]


def machine() -> list[tuple[str, str]]:
    """The system, its processor, memory and accelerator, as (name, value) rows.

    >>> [name for name, _ in machine()]
    ['system', 'processor', 'memory', 'accelerator']
    """
    memory = psutil.virtual_memory()
    cores = os.cpu_count() or 1
    return [
        ("system", f"{platform.system()} {platform.release()} on {platform.machine()}"),
        ("processor", f"{cores} cores, PyTorch uses {torch.get_num_threads()} threads"),
        ("memory", f"{memory.total / GB:.1f} GB, {memory.available / GB:.1f} GB free"),
        ("accelerator", _accelerator()),
    ]


def _accelerator() -> str:
    if not torch.cuda.is_available():
        return "none that PyTorch can use; every lesson runs on the processor"
    free, total = torch.cuda.mem_get_info()
    return f"{torch.cuda.get_device_name()}, {total / GB:.1f} GB, {free / GB:.1f} GB free"


def free_memory() -> tuple[str, int]:
    """Where a model would go, and the bytes free there.

    >>> place, free = free_memory()
    >>> free > 0
    True
    """
    if torch.cuda.is_available():
        return "on the GPU", int(torch.cuda.mem_get_info()[0])
    return "in memory", int(psutil.virtual_memory().available)


def versions() -> list[tuple[str, str]]:
    """Python and the packages the course stands on, as (name, version) rows.

    >>> versions()[0][0]
    'python'
    """
    rows = [("python", f"{platform.python_version()} at {sys.executable}")]
    return rows + [(name, _version(name) or "not installed") for name in SHOWN + SHOWN_LAB]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def attention() -> list[tuple[str, str]]:
    """Each attention backend with "runs" or the reason it cannot, and what "auto" picks.

    >>> dict(attention())["eager"]
    'runs'
    """
    rows = [
        (name, f"cannot run: {why}" if why else "runs")
        for name, why in backends.available().items()
    ]
    return [*rows, ("auto", _picked())]


def _picked() -> str:
    on_cpu = backends.resolve("auto", "cpu", torch.float32)
    if not torch.cuda.is_available():
        return f"picks {on_cpu}"
    on_gpu = backends.resolve("auto", "cuda", torch.bfloat16)
    return f"picks {on_cpu} on the processor, {on_gpu} in bfloat16 on the GPU"


def seven_billion_needs() -> list[Need]:
    """What Mistral-7B v0.1 takes in bfloat16 and with `--bits 8`, counted from the model itself.

    With `--bits 8` the matrices of the layers take one byte a number (their steps, one a row, are
    left out: under 0.1 %) and the rest stays bfloat16. The cache is bfloat16, one full window.

    >>> [(need.name, round(need.total / GB, 1)) for need in seven_billion_needs()]
    [('bfloat16', 15.0), ('with --bits 8', 8.0)]
    """
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.quantized_model import linear_names

    config = MistralConfig.mistral_7b_v0_1()
    with torch.device("meta"):
        model = MistralForCausalLM(config, attention="eager")
    every = sum(weight.numel() for weight in model.parameters())
    matrices = sum(model.get_parameter(f"{name}.weight").numel() for name in linear_names(model))
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    cache = 2 * per_token * (config.sliding_window or config.max_position_embeddings)
    return [
        Need("bfloat16", 2 * every, cache),
        Need("with --bits 8", 2 * every - matrices, cache),
    ]


def seven_billion(place: str, free: int) -> list[tuple[str, str]]:
    """For each way of holding the 7B, whether it fits into `free` bytes, as (name, value) rows.

    >>> seven_billion("in memory", 10 * GB)[1][1]
    '7.5 GB of weights + 0.5 GB of cache: fits in memory (10.0 GB free)'
    """
    rows = []
    for need in seven_billion_needs():
        fits = "fits" if need.total <= free else "does not fit"
        size = f"{need.weights / GB:.1f} GB of weights + {need.cache / GB:.1f} GB of cache"
        rows.append((need.name, f"{size}: {fits} {place} ({free / GB:.1f} GB free)"))
    return rows


def widget_match() -> tuple[str, str | None]:
    """Whether the Python half and the browser half of the widgets belong together.

    Returns:
        One line to show, and the problem as a sentence, or None.

    >>> line, problem = widget_match()
    """
    python, browser = _version("ipywidgets"), _version("jupyterlab_widgets")
    if python is None or browser is None:
        return "not installed", "the widget packages are missing: pip install ipywidgets"
    both = f"ipywidgets {python}, jupyterlab_widgets {browser}"
    if not _wanted_by_ipywidgets(browser):
        return f"{both}: do not match", f"{both} do not match: pip install --upgrade ipywidgets"
    if not any(
        (Path(folder) / WIDGET_MANAGER).is_dir() for folder in jupyter_path("labextensions")
    ):
        repair = "pip install --force-reinstall jupyterlab_widgets"
        return (
            f"{both}: browser files missing",
            f"JupyterLab cannot find {WIDGET_MANAGER}: {repair}",
        )
    return f"{both}: match", None


def _wanted_by_ipywidgets(browser: str) -> bool:
    wanted = [Requirement(line) for line in metadata.requires("ipywidgets") or []]
    return all(browser in one.specifier for one in wanted if one.name == "jupyterlab_widgets")


def tiny_model() -> tuple[str, str | None]:
    """Where the tiny model lies and how large it is.

    Returns:
        One line to show, and the problem as a sentence, or None.

    >>> line, problem = tiny_model()
    """
    weights = paths.data_dir() / "tiny" / "model.safetensors"
    if not weights.is_file():
        return (
            "missing",
            f"{weights} is missing: clone the repository again or reinstall mistral-edu",
        )
    return f"{weights.stat().st_size / 10**6:.1f} MB in {weights.parent}", None
