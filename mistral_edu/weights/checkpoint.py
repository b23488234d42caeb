"""A checkpoint in Hugging Face layout: one safetensors file, or an index and its shards.

    model.safetensors.index.json = {"weight_map": {"tensor's name": "shard's file name", …}}

Lesson: 11_weights.

Conventions
    Every shard's header is checked against the index before any tensor is read.
    A shard is a plain name inside the folder. A link may not lead out of it, but for one layout:
    the download cache keeps `snapshots/<revision>/name` as a link to `blobs/<hash>`.
    The index's `total_size` is not checked: published indices count tensors that they do not hold.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mistral_edu.weights import strict_json
from mistral_edu.weights.errors import WeightsError, listed
from mistral_edu.weights.safetensors_files import open_safetensors_file

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_NAME = re.compile(r"[\w.-]+\.safetensors", re.ASCII)


class JoinedFiles:
    """Several files as one source; `open_safetensors` makes one."""

    def __init__(self, index: Path, files: "Mapping[str, TensorSource]") -> None:
        self.path, self._files = index, files  # by tensor name

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """Every tensor's name, file by file."""
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from its shard's header."""
        return self._files[name].shape(name)

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's type, from its shard's header."""
        return self._files[name].dtype(name)

    def read(self, name: str) -> Tensor:
        """Map one tensor; see `SafetensorsFile.read`."""
        return self._files[name].read(name)


def inside(folder: Path, name: str) -> Path:
    """The file `name` of `folder`, if that is where it really lies.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if a link leads out of the folder and not into the download cache's blobs.

    >>> from mistral_edu.paths import data_dir
    >>> inside(data_dir() / "tiny", "config.json").name
    'config.json'
    """
    path = folder / name
    try:
        real, home = path.resolve(strict=True), folder.resolve(strict=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist: give a folder that holds it") from None
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise WeightsError(f"{path} cannot be followed ({error})") from error
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parent.parent / "blobs")
    if real.parent not in allowed:
        raise WeightsError(
            f"{path} is a link to {real}, outside the folder: put the file itself in its place"
        )
    return path


def shards_of_index(index: dict[str, Any], source: object) -> dict[str, str]:
    """Which shard each tensor is in, as an index file says.

    Raises:
        WeightsError: if it says nothing of the kind, or names anything but a plain file name.

    >>> shards_of_index({"weight_map": {"a": "model-00001-of-00001.safetensors"}}, "this file")
    {'a': 'model-00001-of-00001.safetensors'}
    """
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise WeightsError(f"{source} has no weight_map that says where each tensor is")
    shards = dict.fromkeys(str(shard) for shard in places.values())
    wrong = [shard for shard in shards if not SHARD_NAME.fullmatch(shard)]
    if wrong:
        problems = [
            f"{shard[:80]!r} is not the plain name of a .safetensors file" for shard in wrong
        ]
        raise WeightsError(f"{source} names shards that cannot be:\n{listed(problems)}")
    return places


def open_safetensors(folder: str | Path) -> "TensorSource":
    """Check every header of a checkpoint; no tensor is read yet.

    Args:
        folder: holds model.safetensors, or model.safetensors.index.json and the shards it names.

    Raises:
        FileNotFoundError: if it holds neither.
        WeightsError: if a file is damaged, leads out of the folder, or the index and the shards
            disagree; every disagreement is listed.

    >>> from mistral_edu.paths import data_dir
    >>> len(open_safetensors(data_dir() / "tiny").names())
    56
    """
    folder = Path(folder)
    if os.path.lexists(folder / SINGLE_FILE):
        return open_safetensors_file(inside(folder, SINGLE_FILE))
    if not os.path.lexists(folder / INDEX_FILE):
        raise FileNotFoundError(
            f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}: give a folder that "
            "save_pretrained wrote"
        )
    index = inside(folder, INDEX_FILE)
    places = shards_of_index(strict_json.read_object(index), index)
    files, problems = {}, []
    for shard in dict.fromkeys(places.values()):
        try:
            files[shard] = open_safetensors_file(inside(folder, shard))
        except FileNotFoundError:
            problems.append(f"{shard}: the file is missing")
    problems += disagreements(places, {shard: file.names() for shard, file in files.items()})
    if problems:
        raise WeightsError(f"{index} and its shards disagree:\n{listed(problems)}")
    return JoinedFiles(index, {name: files[shard] for name, shard in places.items()})


def disagreements(places: dict[str, str], held: dict[str, list[str]]) -> list[str]:
    """Every tensor that is not in exactly the shard that the index names, one line each.

    Args:
        places: each tensor's shard, as the index says.
        held: each shard's tensors, as its header says.

    >>> disagreements({"a": "one", "b": "one"}, {"one": ["a", "c"]})
    ['b: is not in one', 'c: is in one, but the index does not place it there']
    """
    lines = []
    names = {shard: set(tensors) for shard, tensors in held.items()}
    for name, shard in places.items():
        if shard in names and name not in names[shard]:
            lines.append(f"{name}: is not in {shard}")
    for shard, tensors in held.items():
        for name in tensors:
            if places.get(name) != shard:
                lines.append(f"{name}: is in {shard}, but the index does not place it there")
    return lines
