"""The reader of `.pth` files, held against torch on every input; nothing may run or be written.

An input is a whole archive, or else the pickle of one: damage to an archive seldom reaches it.
"""

import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import torch

from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.pth_archive import require_checksums
from mistral_edu.weights.pth_files import open_pth
from tests.fuzz.harness import main, put

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz_pth_"))
PATH = FOLDER / "one.pth"
LARGEST = 10**6  # numbers in a tensor: the seeds have a handful, and no input is longer


class Payload:
    """Unpickles as a command that leaves a mark."""

    def __reduce__(self):
        return os.mkdir, (str(FOLDER / "ran"),)


def saved(found: object) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(found, file)
    return file.getvalue()


def archive(program: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """A file with this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        target.writestr("a/data.pkl", program)
        target.writestr("a/data/0", bytes(8))
        target.writestr("a/version", b"3\n")
    return file.getvalue()


def program_of(data: bytes) -> bytes:
    """The pickle in a file."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        return source.read("archive/data.pkl")


SEEDS = [
    saved({"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3).bfloat16()}),
    saved({"a": torch.ones(1).expand(4), "b": torch.zeros(0, 3).half()}),
    saved([torch.ones(2)]),
    saved({"model": {"a": torch.ones(2)}, "step": 3}),
    archive(pickle.dumps({}, protocol=2), zipfile.ZIP_DEFLATED),
    pickle.dumps({"a": Payload()}, protocol=2),
    pickle.dumps({"a": Payload()}, protocol=4),
    program_of(saved({"a": torch.arange(2.0)})),
    program_of(saved({"a": torch.arange(4.0).half()[1:]})),
    program_of(saved(torch.nn.Linear(1, 2, bias=False).state_dict())),
    program_of(saved({"a": torch.nn.Parameter(torch.ones(2))})),
]


def check(data: bytes) -> None:
    """What we accept torch accepts too, with equal tensors of a size that the file has room for."""
    put(PATH, data if data.startswith(b"PK") else archive(data))
    try:
        source = open_pth(PATH)
        tensors = {name: source.read(name) for name in source.names()}
    except WeightsError:
        tensors = {}
    assert [path.name for path in FOLDER.iterdir()] == [PATH.name], "something ran"
    for name, tensor in tensors.items():
        assert tensor.numel() < LARGEST, name
    if tensors:
        for name, theirs in torch.load(PATH, "cpu", weights_only=True).items():
            ours = tensors[name]
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, name
            assert bytes_of(ours) == bytes_of(theirs), name
        try:
            require_checksums(PATH)
        except WeightsError:
            return


def bytes_of(tensor: torch.Tensor) -> bytes:
    """The tensor's bytes: equal also where numbers are NaN."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


if __name__ == "__main__":
    main(check, seeds=SEEDS)
