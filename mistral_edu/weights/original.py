"""Mistral's own files: consolidated weights, params.json, tokenizer.model.

    consolidated.00.pth            the release of v0.1, one file
    consolidated.safetensors       later releases
    consolidated-00001-of-00002.…  several files, each with some of the tensors

Lesson: 11_weights.

Conventions
    Where both kinds are there, the safetensors are read: they cannot hold a program.
    Files that hold different tensors are joined. Files that each hold a slice of the same tensors
    (tensor parallel, as LLaMA was released) are refused: no Mistral model was released so, and
    which side a matrix was cut on would be a guess.
    These weights rotate neighbouring channels ("pairs"); reading them for a model reorders the
    rows of W_q and W_k (see `names`).
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mistral_edu.config import MistralConfig
from mistral_edu.weights.checkpoint import JoinedFiles, inside
from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.params_json import (
    PARAMS_FILE,
    config_from_params,
    params_from_config,
    read_params,
)
from mistral_edu.weights.pth_files import open_pth
from mistral_edu.weights.pth_writing import write_pth
from mistral_edu.weights.safetensors_files import open_safetensors_file
from mistral_edu.weights.saving import Planned, set_aside, write_safetensors
from mistral_edu.weights.whole_files import move_all, whole_file

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.weights.sources import TensorSource

SAFETENSORS_FILE, PTH_FILE = "consolidated.safetensors", "consolidated.00.pth"
WEIGHT_FILE = re.compile(r"consolidated[\w.-]*\.(pth|safetensors)", re.ASCII)
EMBEDDING = "tok_embeddings.weight"


def weight_files(folder: str | Path) -> list[Path]:
    """The files of weights to read in a folder: its safetensors, or else its `.pth` files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "consolidated.00.pth").touch()
    ...     [path.name for path in weight_files(folder)]
    ['consolidated.00.pth']
    """
    paths = [path for path in sorted(Path(folder).glob("*")) if WEIGHT_FILE.fullmatch(path.name)]
    return [path for path in paths if path.suffix == ".safetensors"] or paths


def open_original(folder: str | Path) -> "tuple[MistralConfig, TensorSource]":
    """The config and the tensors, under their own names, of a folder of Mistral's own files.

    Raises:
        FileNotFoundError: if params.json or the weights are missing.
        WeightsError: if a file is damaged, hostile, or describes another model.
    """
    folder = Path(folder)
    paths = [inside(folder, path.name) for path in weight_files(folder)]
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds neither {SAFETENSORS_FILE} nor {PTH_FILE}: give a folder that holds "
            "one of them and params.json"
        )
    source = _joined(folder, paths)
    rows = source.shape(EMBEDDING)[:1] if EMBEDDING in source.names() else ()
    return config_from_params(read_params(folder), vocab_size=next(iter(rows), None)), source


def _joined(folder: Path, paths: list[Path]) -> "TensorSource":
    sources: list[TensorSource] = [
        open_pth(path) if path.suffix == ".pth" else open_safetensors_file(path) for path in paths
    ]
    if len(sources) == 1:
        return sources[0]
    places: dict[str, TensorSource] = {}
    for source in sources:
        for name in source.names():
            if name in places:
                raise WeightsError(
                    f"{name} is in {places[name]} and in {source}: slices of one tensor cannot be "
                    "joined here; give files that hold whole tensors"
                )
            places[name] = source
    return JoinedFiles(folder, places)


def load_original(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    attention: str = "auto",
) -> "MistralForCausalLM":
    """Load a language model from Mistral's own files, in evaluation mode.

    Args:
        folder: holds params.json and the consolidated weights.
        dtype: cast weights to this; None keeps the file's.
        device: where to put them.
        attention: a backend's name.

    Raises:
        FileNotFoundError, WeightsError: see `open_original`.
    """
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.weights.layouts import InLayout
    from mistral_edu.weights.model_weights import load_weights
    from mistral_edu.weights.shapes_only import shapes_only

    config, source = open_original(folder)
    weights = InLayout(source, config, "hugging-face")
    with shapes_only():
        model = MistralForCausalLM(config, attention)
    load_weights(model, weights, dtype=dtype, device=device)
    return model.eval()


def write_original(
    folder: Path, config: MistralConfig, tensors: Iterable[Planned], *, pth: bool = False
) -> None:
    """Write params.json and one file of weights into an empty folder.

    Args:
        folder: such as `whole_set(…, replace_original)` gives.
        config: of the model.
        tensors: with their original names; see `write_safetensors`.
        pth: write the file of the v0.1 release, which Mistral's code of 2023 reads.
    """
    fields = json.dumps(params_from_config(config), indent=4)
    with whole_file(folder / PARAMS_FILE) as file:
        file.write((fields + "\n").encode("utf-8"))
    if pth:
        write_pth(folder / PTH_FILE, tensors)
    else:
        write_safetensors(folder / SAFETENSORS_FILE, tensors)


def replace_original(staging: Path, folder: Path, names: list[str]) -> None:
    """Move a complete set of Mistral's own files into place, then remove what is left of the old.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as old, tempfile.TemporaryDirectory() as new:
    ...     (Path(old) / PTH_FILE).touch(), (Path(new) / SAFETENSORS_FILE).touch()
    ...     replace_original(Path(new), Path(old), [SAFETENSORS_FILE])
    ...     [path.name for path in Path(old).iterdir()]
    (None, None)
    ['consolidated.safetensors']
    """
    ordered = sorted(names, key=lambda name: name == PARAMS_FILE)  # last: it makes the set a model
    with set_aside(folder, ordered):
        move_all(staging, folder, ordered)
    for path in list(folder.iterdir()):
        if path.name not in names and WEIGHT_FILE.fullmatch(path.name):
            path.unlink()
