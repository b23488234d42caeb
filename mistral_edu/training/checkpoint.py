"""Checkpoints of a training: all that is needed to go on as if nothing had happened.

    weights, optimiser state, step, losses, random state   ->  one file, whole or not at all

The data position is missing because it is the step: a batch is a function of (seed, step).
Lesson: 10_heads_and_training.
"""

from pathlib import Path
from typing import Any

import torch

from mistral_edu.weights.whole_files import whole_file

FILE = "checkpoint.pt"


class CheckpointError(ValueError):
    """The checkpoint cannot be used; the message says why and what to do."""


def write(folder: Path, state: dict[str, Any]) -> Path:
    """Write the state, whole or not at all.

    Whenever the process dies, the file under the final name is the old one or the new one, whole.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(Path(folder), {"step": 7})
    ...     read(Path(folder))["step"], [each.name for each in Path(folder).iterdir()]
    (7, ['checkpoint.pt'])
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with whole_file(path) as file:
        torch.save(state, file)
    return path


def read(folder: Path) -> dict[str, Any]:
    """Read the state that `write` wrote; data only, nothing in it is executed.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: the file is damaged or something else.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; start without --resume")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged file raises whatever the unpickler stumbles over.
        raise CheckpointError(
            f"{path} is not a checkpoint ({error}); remove it to start again"
        ) from error
