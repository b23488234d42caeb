"""Write safetensors: one tensor in memory at a time, whole files only, shards with an index.

Names, types and shapes are known before the first tensor is made, so the header can go first and
each tensor's bytes follow as it is made.

Lesson: 11_weights.
"""

import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from mistral_edu.weights.checkpoint import INDEX_FILE, SINGLE_FILE
from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.safetensors_header import header_bytes, lay_out, size_of
from mistral_edu.weights.whole_files import move_all, whole_file, whole_set

Planned = tuple[str, torch.dtype, tuple[int, ...], Callable[[], Tensor]]
MAX_SHARD_BYTES = 5 * 10**9
OWN_FILES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")


def write_safetensors(
    path: str | Path,
    tensors: Iterable[Planned],
    metadata: Mapping[str, str] = {"format": "pt"},  # noqa: B006 - never changed
) -> None:
    """Write one file, whole or not at all; at most one tensor is in memory.

    Args:
        path: of the file.
        tensors: for each its name, type, shape, and a function that makes it.
        metadata: texts for the header; `transformers` wants the format named.

    Raises:
        WeightsError: if a name occurs twice, or a tensor is not what was announced.

    >>> import tempfile
    >>> from mistral_edu.weights.sources import open_safetensors_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "one.safetensors"
    ...     write_safetensors(path, [("a", torch.float32, (2,), lambda: torch.ones(2))])
    ...     open_safetensors_file(path).read("a")
    tensor([1., 1.])
    """
    tensors = list(tensors)
    entries = lay_out((name, dtype, shape) for name, dtype, shape, _ in tensors)
    makers = {name: make for name, _, _, make in tensors}
    with whole_file(path) as file:
        file.write(header_bytes(entries, dict(metadata)))
        for name, entry in entries.items():
            file.write(made_bytes(name, entry.dtype, entry.shape, makers[name]))


def made_bytes(
    name: str, dtype: torch.dtype, shape: tuple[int, ...], make: Callable[[], Tensor]
) -> memoryview:
    """The bytes of one planned tensor, checked against its announcement.

    Raises:
        WeightsError: if its type or shape differ.
    """
    tensor = make().detach()
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise WeightsError(
            f"{name}: {dtype} of shape {shape} was announced, "
            f"{tensor.dtype} of shape {tuple(tensor.shape)} was made"
        )
    return tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data


def split_into_shards(tensors: Sequence[Planned], max_shard_bytes: int) -> list[list[Planned]]:
    """Fill shards in the order given; only a tensor that is larger alone exceeds the limit.

    >>> tensors = [(name, torch.int8, (2,), torch.zeros) for name in "abc"]
    >>> [[tensor[0] for tensor in shard] for shard in split_into_shards(tensors, 4)]
    [['a', 'b'], ['c']]
    """
    shards: list[list[Planned]] = [[]]
    filled = 0
    for tensor in tensors:
        size = size_of(tensor[1], tensor[2])
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += size
    return shards


def write_sharded(
    folder: str | Path, tensors: Iterable[Planned], max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write `model.safetensors`, or shards and their index, in place of what `folder` held.

    Args:
        folder: made if absent.
        tensors: as for `write_safetensors`.
        max_shard_bytes: of tensors in one file.

    Raises:
        WeightsError: as for `write_safetensors`; the folder is then as it was.
    """
    with whole_set(folder, replace_weights) as staging:
        write_shards(staging, tensors, max_shard_bytes)


def write_shards(
    folder: Path, tensors: Iterable[Planned], max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write a set of shards into an empty folder, such as `whole_set(…, replace_weights)` gives."""
    tensors = list(tensors)
    lay_out((name, dtype, shape) for name, dtype, shape, _ in tensors)  # one name in two shards
    shards = split_into_shards(tensors, max_shard_bytes)
    if len(shards) == 1:
        write_safetensors(folder / SINGLE_FILE, tensors)
        return
    places = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / file_name, shard)
        places.update({name: file_name for name, *_ in shard})
    total = sum(size_of(dtype, shape) for _, dtype, shape, _ in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    with whole_file(folder / INDEX_FILE) as file:
        file.write((json.dumps(index, indent=2, sort_keys=True) + "\n").encode("utf-8"))


def replace_weights(staging: Path, folder: Path, names: list[str]) -> None:
    """Move a complete set of weights into place; then remove what is left of the old one.

    A single file takes the old one's place in one rename. Shards cannot: so the old set is put
    aside first, its index before all else, and no moment mixes old shards with new ones.
    """
    weights = [name for name in names if OWN_FILES.fullmatch(name)]
    if INDEX_FILE in names:
        with set_aside(folder, [INDEX_FILE, *weights]):
            move_all(staging, folder, [*weights, INDEX_FILE])
    else:
        move_all(staging, folder, weights)
    move_all(staging, folder, [name for name in names if (staging / name).exists()])
    if weights:
        remove_others(folder, names)


@contextmanager
def set_aside(folder: Path, names: list[str]) -> Iterator[None]:
    """Put those of `names` that exist away, and back again if the block fails.

    Moving a file fails on Windows while a model that was loaded from it is in use.
    """
    aside = folder / f".replaced.{secrets.token_hex(4)}"
    aside.mkdir()
    present = [name for name in names if (folder / name).exists()]
    try:
        move_all(folder, aside, present)
        yield
    except BaseException:
        for name in names:
            if (aside / name).exists():
                (aside / name).replace(folder / name)
            elif name not in present:
                (folder / name).unlink(missing_ok=True)
        aside.rmdir()
        raise
    shutil.rmtree(aside)


def remove_others(folder: Path, names: list[str]) -> None:
    """Remove the weights in `folder` that are not of the set just written."""
    for path in list(folder.iterdir()):
        is_weights = OWN_FILES.fullmatch(path.name) or path.name == INDEX_FILE
        if is_weights and path.name not in names:
            path.unlink()
