"""Write a `.pth` file one tensor at a time, as `torch.save` would write the whole dictionary.

    name/data.pkl    a pickle that builds {name: tensor}, naming the storages below
    name/byteorder   "little"
    name/data/0 …    the bytes of each tensor
    name/version     "3"

`torch.save` wants every tensor at once. The pickle needs only types and shapes, so it can go first
and each tensor's bytes follow as it is made.

Source: the layout that `torch.save` has written since torch 1.6.
Lesson: 11_weights.

Conventions
    Entries start at multiples of 64 bytes, filled up in the entry's header, so that a mapped
    tensor lies where its type wants it.
    What was written is what was announced, or the file does not appear.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mistral_edu.weights.saving import Planned, made_bytes
from mistral_edu.weights.whole_files import whole_file

ROOT = "consolidated"
ALIGNMENT = 64
LARGE = 2**30  # bytes; far below the 2^31 at which a zip entry must have the longer header
FILLING = 0x4246  # the extra field that torch.save fills up with too
FIXED_HEADER, LARGE_HEADER, FIELD_HEADER = 30, 20, 4  # bytes of a zip entry's header and its parts
STORAGES = {
    torch.bfloat16: torch.BFloat16Storage,
    torch.float16: torch.HalfStorage,
    torch.float32: torch.FloatStorage,
    torch.float64: torch.DoubleStorage,
}


class _Storage:
    """What the pickle says of the bytes of one tensor."""

    def __init__(self, key: int, dtype: torch.dtype, numbers: int) -> None:
        self.reference = ("storage", STORAGES[dtype], str(key), "cpu", numbers)


class _Tensor:
    """Pickles as the call that makes a tensor of a storage."""

    def __init__(self, storage: _Storage, shape: tuple[int, ...]) -> None:
        self.storage, self.shape = storage, shape

    def __reduce__(self) -> tuple[Any, ...]:
        steps = tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))
        parts: tuple[Any, ...] = (self.storage, 0, self.shape, steps, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, parts


class _Pickler(pickle.Pickler):
    def persistent_id(self, item: Any) -> tuple[Any, ...] | None:
        return item.reference if isinstance(item, _Storage) else None


def write_pth(path: str | Path, tensors: Iterable[Planned]) -> None:
    """Write one file, whole or not at all; at most one tensor is in memory.

    Args:
        path: of the file.
        tensors: for each its name, type, shape, and a function that makes it.

    Raises:
        WeightsError: if a tensor is not what was announced.
        KeyError: for a type that is not floating-point.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "consolidated.00.pth"
    ...     write_pth(path, [("a", torch.float32, (2,), lambda: torch.ones(2))])
    ...     torch.load(path, weights_only=True)
    {'a': tensor([1., 1.])}
    """
    tensors = list(tensors)
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        _write(archive, "data.pkl", _program(tensors))
        _write(archive, "byteorder", b"little")
        for key, (name, dtype, shape, make) in enumerate(tensors):
            _write(archive, f"data/{key}", made_bytes(name, dtype, shape, make))
        _write(archive, "version", b"3\n")


def _program(tensors: list[Planned]) -> bytes:
    found = {
        name: _Tensor(_Storage(key, dtype, math.prod(shape)), shape)
        for key, (name, dtype, shape, _) in enumerate(tensors)
    }
    program = io.BytesIO()
    _Pickler(program, protocol=2).dump(found)
    return program.getvalue()


def _write(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    entry = zipfile.ZipInfo(f"{ROOT}/{name}")
    large = len(data) > LARGE
    before = FIXED_HEADER + len(entry.filename) + FIELD_HEADER + LARGE_HEADER * large
    filling = -(archive.fp.tell() + before) % ALIGNMENT  # type: ignore[union-attr]
    entry.extra = struct.pack("<HH", FILLING, filling) + bytes(filling)
    with archive.open(entry, "w", force_zip64=large) as stream:
        stream.write(data)
