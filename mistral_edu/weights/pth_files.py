"""One `.pth` file of weights, as a source of tensors.

Source: `consolidated.00.pth`, the file in which Mistral-7B-v0.1 was released.
Lesson: 11_weights.

Conventions
    The archive is checked (`pth_archive`) before torch opens it, and torch opens it with
    weights_only=True and mmap=True: nothing runs, and nothing is read before it is touched. What
    the check lets through can only be dense and floating-point.
    Each reading maps the file anew. A map lives as long as its tensor, so walking through a file
    holds one tensor's pages and not all of them.
    Tensors may share memory in the file (tied weights do); each is read for itself.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mistral_edu.weights.errors import WeightsError, listed
from mistral_edu.weights.pth_archive import require_archive


class PthFile:
    """The tensors of one `.pth` file by name; `open_pth` makes one."""

    def __init__(self, path: Path, kinds: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
        self.path, self._kinds = path, kinds

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """Every tensor's name, in the file's order."""
        return list(self._kinds)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        return self._kinds[name][1]

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's type."""
        return self._kinds[name][0]

    def read(self, name: str) -> Tensor:
        """Map one tensor.

        Raises:
            WeightsError: if the file was replaced since it was opened.
        """
        tensor = _load(self.path).get(name)
        if tensor is None or _kind(tensor) != self._kinds[name]:
            raise WeightsError(f"{self.path} changed while it was read: load it again")
        return tensor.detach()


def open_pth(path: str | Path) -> PthFile:
    """Check a `.pth` file and list its tensors; no tensor is read yet.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if it is damaged, hostile, or holds anything but a dictionary of plain
            floating-point tensors; every problem is listed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"norm.weight": torch.ones(2)}, Path(folder) / "a.pth")
    ...     file = open_pth(Path(folder) / "a.pth")
    ...     file.shape("norm.weight"), file.read("norm.weight")
    ((2,), tensor([1., 1.]))
    """
    path = Path(path)
    require_archive(path)
    tensors = _load(path)
    problems = [
        f"{str(name)[:80]}: {wrong}" for name, found in tensors.items() if (wrong := _fault(found))
    ]
    problems += [f"{name!r:.80}: is no name" for name in tensors if not isinstance(name, str)]
    if problems:
        raise WeightsError(f"{path} holds more than weights:\n{listed(problems)}")
    return PthFile(path, {name: _kind(tensor) for name, tensor in tensors.items()})


def _load(path: Path) -> dict[Any, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged pickle fails in whatever step it was damaged in
        raise WeightsError(
            f"{path} is damaged ({type(error).__name__}: {str(error)[:200]}): "
            "copy or download it again"
        ) from error
    if not isinstance(found, dict):
        raise WeightsError(
            f"{path} holds a {type(found).__name__}, expected a dictionary of tensors"
        )
    return found


def _kind(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    return tensor.dtype, tuple(tensor.shape)


def _fault(found: Any) -> str | None:
    """What keeps an object from being a plain tensor of weights, or None."""
    if not isinstance(found, Tensor):
        return f"is a {type(found).__name__}, expected a tensor"
    # A step of 0 makes a huge tensor of four bytes, and copying it would fill the memory.
    if found.numel() * found.itemsize > found.untyped_storage().nbytes():
        return f"has shape {tuple(found.shape)}, more numbers than the file holds for it"
    return None
