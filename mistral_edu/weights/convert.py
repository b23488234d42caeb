"""Convert a model between Mistral's own layout and Hugging Face's, one tensor at a time.

    for every tensor: read → (pool) → (reorder rows) → (cast) → write

Source: the model documentation's conversion of the raw weights; the way back is its inverse.
Lesson: 11_weights.

Conventions
    The source's layout is told by its tensors' names, never by a flag, so nothing is permuted
    twice. Converting to the layout it already has is refused, unless that changes weights.
    Everything is written under other names and moved into place at the end: a full disk, an error
    or Ctrl-C leaves the target as it was. The source is only read.
    A config says more than params.json can (special ids, initializer_range): that is lost on the
    way to the original layout, and filled with defaults on the way back.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from mistral_edu.config import MistralConfig
from mistral_edu.weights.checkpoint import inside
from mistral_edu.weights.layouts import InLayout
from mistral_edu.weights.model_folder import ModelFolder, layouts_in, open_model_folder
from mistral_edu.weights.model_weights import FLOATS
from mistral_edu.weights.names import LAYOUTS, Layout
from mistral_edu.weights.original import replace_original, weight_files, write_original
from mistral_edu.weights.pooling import Pooled
from mistral_edu.weights.pth_archive import require_checksums
from mistral_edu.weights.safetensors_header import size_of
from mistral_edu.weights.saving import Planned, replace_weights, write_shards
from mistral_edu.weights.whole_files import require_writable, whole_set

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource

# What Hugging Face's tokenizer and generation read; of no use beside the original layout.
SIDE_FILES = (
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
TOKENIZER_FILE = "tokenizer.model"


def convert(
    source_folder: str | Path,
    target_folder: str | Path,
    to: str,
    dtype: torch.dtype | None = None,
    *,
    key_value_heads: int | None = None,
    pooling: str = "mean",
    pth: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Write the model of one folder into another, in the layout asked for.

    Args:
        source_folder: holds a language model in either layout; read only.
        target_folder: made if absent.
        to: "hugging-face" or "original".
        dtype: cast weights to this; None keeps each tensor's.
        key_value_heads: pool the key/value heads to so many; None keeps them.
        pooling: how; see `pooling.Pooled`.
        pth: in the original layout, write consolidated.00.pth, not consolidated.safetensors.
        overwrite: replace the model that the target holds.
        progress: show a bar on a terminal.

    Raises:
        FileNotFoundError: if the source holds no model.
        FileExistsError: if the target holds one.
        ValueError: if there is nothing to do, or for arguments out of range.
        WeightsError: if a file is damaged or does not fit its config.
        OSError: if the disk is too small, or takes no files; nothing is written.

    >>> import tempfile
    >>> from mistral_edu.paths import data_dir
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     convert(data_dir() / "tiny", folder, to="original")
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['consolidated.safetensors', 'params.json', 'tokenizer.model']
    """
    layout = _layout(to, dtype)
    target = Path(target_folder)
    found = open_model_folder(source_folder, prefer=_other(layout))
    if found.layout == layout and dtype is None and key_value_heads is None:
        raise ValueError(f"{found.path} is in the {layout} layout already: there is nothing to do")
    _require_free(target, found.path, layout, overwrite)
    _require_checksums(found)
    config, tensors = found.config, found.read_as("hugging-face")
    if key_value_heads is not None:
        pooled = Pooled(tensors, config, key_value_heads, pooling)
        config, tensors = pooled.config, pooled
    written = InLayout(tensors, config, layout)
    _require_room(target, written, dtype)
    new = not target.exists()
    try:
        bar = tqdm(total=len(written.names()), unit=" tensors", disable=None if progress else True)
        with bar:
            _write(target, layout, config, _plan(written, dtype, bar), found.path, pth)
    except BaseException:
        if new and target.is_dir() and not any(target.iterdir()):
            target.rmdir()
        raise


def _layout(to: str, dtype: torch.dtype | None) -> Layout:
    if dtype is not None and dtype not in FLOATS:
        raise ValueError(f"dtype={dtype}, expected None or one of {', '.join(map(str, FLOATS))}")
    for layout in LAYOUTS:
        if layout == to:
            return layout
    raise ValueError(f"to={to!r} is no layout: choose one of {', '.join(LAYOUTS)}")


def _other(layout: Layout) -> Layout:
    return "original" if layout == "hugging-face" else "hugging-face"


def _require_free(target: Path, source: Path, layout: Layout, overwrite: bool) -> None:
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file, expected a folder: choose another target")
    if target.exists() and target.samefile(source):
        raise FileExistsError(f"{target} is the source itself: choose another target")
    held = layouts_in(target)
    if held and not overwrite:
        raise FileExistsError(
            f"{target} holds a model already: choose another target, or give overwrite=True "
            "to replace it"
        )
    if held and layout not in held:
        raise FileExistsError(
            f"{target} holds a model in the {held[0]} layout, and two models in one folder would "
            "be taken for one: choose another target"
        )


def _require_room(target: Path, source: "TensorSource", dtype: torch.dtype | None) -> None:
    """Refuse before hours of writing what cannot fit; what is overwritten stays until the end."""
    names = source.names()
    size = sum(size_of(dtype or source.dtype(name), source.shape(name)) for name in names)
    free = shutil.disk_usage(require_writable(target)).free
    if free < size:
        raise OSError(
            f"{target} needs {size / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB left: "
            "free some, or choose another disk"
        )


def _require_checksums(found: ModelFolder) -> None:
    if found.layout == "original":
        for path in weight_files(found.path):
            if path.suffix == ".pth":
                require_checksums(path)


def _plan(source: "TensorSource", dtype: torch.dtype | None, bar: tqdm) -> list[Planned]:
    def make(name: str) -> Tensor:
        bar.update()
        return source.read(name).to(dtype=dtype)

    return [
        (name, dtype or source.dtype(name), source.shape(name), partial(make, name))
        for name in source.names()
    ]


def _write(
    target: Path,
    layout: Layout,
    config: MistralConfig,
    plan: list[Planned],
    source: Path,
    pth: bool,
) -> None:
    replace = replace_original if layout == "original" else replace_weights
    with whole_set(target, replace) as staging:
        _copy_side_files(source, staging, layout)
        if layout == "original":
            write_original(staging, config, plan, pth=pth)
        else:
            _hugging_face_config(config, plan[0][1]).save_pretrained(staging)
            write_shards(staging, plan)


def _hugging_face_config(config: MistralConfig, dtype: torch.dtype) -> MistralConfig:
    fields = config.to_dict()
    fields.pop("torch_dtype", None)  # the name of `dtype` in files of transformers 4
    fields["architectures"] = ["MistralForCausalLM"]
    fields["dtype"] = str(dtype).removeprefix("torch.")
    return MistralConfig(**fields)


def _copy_side_files(source: Path, staging: Path, layout: Layout) -> None:
    for name in () if layout == "original" else SIDE_FILES:
        if (source / name).is_file():
            shutil.copyfile(inside(source, name), staging / name)
    # v0.3 calls it tokenizer.model.v3.
    for path in sorted(source.glob(f"{TOKENIZER_FILE}*"))[:1]:
        if path.is_file():
            shutil.copyfile(inside(source, path.name), staging / TOKENIZER_FILE)
