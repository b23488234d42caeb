"""One safetensors file, read a tensor at a time: checked when opened, mapped when read.

Reading maps the tensor's own bytes of the file into memory and copies nothing. The pages of a
tensor are loaded when they are first touched, and given back when the tensor is dropped. The
safetensors library maps a file as one piece and gives nothing back before its last tensor is gone:
casting a checkpoint would then hold it twice.

Lesson: 11_weights.

Conventions
    Mappings are private: writing to a tensor (training does) changes memory, never the file.
    What no reader can find out: a flipped bit in the data, for the format has no checksum.
"""

import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.safetensors_header import (
    LENGTH_BYTES,
    Entry,
    header_length,
    parse_header,
    size_of,
)


class SafetensorsFile:
    """The tensors of one file by name; `open_safetensors_file` makes one.

    Args:
        path: the file.
        entries: what its header says.
        data_start: bytes before the data.
        identity: of the file that was checked; see `_identity`.
    """

    def __init__(
        self, path: Path, entries: dict[str, Entry], data_start: int, identity: tuple[int, ...]
    ) -> None:
        self.path, self._entries = path, entries
        self._data_start, self._file_identity = data_start, identity

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """Every tensor's name, in the order of their bytes."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from the header."""
        return self._entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's type, from the header."""
        return self._entries[name].dtype

    def read(self, name: str) -> Tensor:
        """Map one tensor.

        Raises:
            WeightsError: if the file was replaced since it was checked.
        """
        entry = self._entries[name]
        size = size_of(entry.dtype, entry.shape)
        if size == 0:
            return torch.empty(entry.shape, dtype=entry.dtype)
        start = self._data_start + entry.begin
        skipped = start % mmap.ALLOCATIONGRANULARITY  # a mapping starts at a whole page
        with self.path.open("rb") as file:
            if _identity(file.fileno()) != self._file_identity:
                raise WeightsError(f"{self.path} changed while it was read: load it again")
            mapped = mmap.mmap(
                file.fileno(), skipped + size, access=mmap.ACCESS_COPY, offset=start - skipped
            )
        data = torch.frombuffer(mapped, dtype=torch.uint8, count=size, offset=skipped)
        if start % entry.dtype.itemsize:
            data = data.clone()  # a file not padded as ours are: move it to where numbers may lie
        return data.view(entry.dtype).view(entry.shape)


def _identity(descriptor: int) -> tuple[int, ...]:
    """What tells an open file from one put in its place."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_safetensors_file(path: str | Path) -> SafetensorsFile:
    """Check a file's header; no tensor is read yet.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if the header is not one that accounts for every byte of the file.

    >>> from mistral_edu.paths import data_dir
    >>> file = open_safetensors_file(data_dir() / "tiny" / "model.safetensors")
    >>> file.shape("model.norm.weight"), file.dtype("model.norm.weight")
    ((128,), torch.float16)
    >>> file.read("model.norm.weight").shape
    torch.Size([128])
    """
    path = Path(path)
    if not path.is_file():  # also of a pipe or a device, which could be read for ever
        raise FileNotFoundError(f"{path} does not exist, or is no file: give a .safetensors file")
    with path.open("rb") as file:
        identity = _identity(file.fileno())
        size = os.fstat(file.fileno()).st_size
        length = header_length(file.read(LENGTH_BYTES), size, path)
        header = file.read(length)
    data_start = LENGTH_BYTES + length
    return SafetensorsFile(
        path, parse_header(header, size - data_start, path), data_start, identity
    )
