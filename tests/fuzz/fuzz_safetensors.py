"""The reader of safetensors files, held against the safetensors library on every input."""

import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.safetensors_files import open_safetensors_file
from tests.fuzz.harness import main, put

PATH = Path(tempfile.mkdtemp(prefix="fuzz_safetensors_")) / "one.safetensors"
SEEDS = [
    save({"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3).half()}, {"format": "pt"}),
    save({"a": torch.zeros(0, 4), "scalar": torch.tensor(1.5).bfloat16()}),
    save({}),
    (2**40).to_bytes(8, "little") + b"{}",
    (10).to_bytes(8, "little") + b'{"a":' * 2,
]


def check(data: bytes) -> None:
    """What we accept the library accepts too, with equal tensors."""
    put(PATH, data)
    try:
        source = open_safetensors_file(PATH)
    except WeightsError:
        return
    names = source.names()
    tensors = {name: source.read(name) for name in names}
    try:
        with safe_open(PATH, "pt") as library:
            assert set(names) == set(library.keys()), (names, library.keys())
            for name, ours in tensors.items():
                theirs = library.get_tensor(name)
                assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, name
                assert bytes_of(ours) == bytes_of(theirs), name
    except SafetensorError as error:
        raise AssertionError(f"the library refuses what we accept: {error}") from error


def bytes_of(tensor: torch.Tensor) -> bytes:
    """The tensor's bytes: equal also where numbers are NaN."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


if __name__ == "__main__":
    main(check, seeds=SEEDS)
