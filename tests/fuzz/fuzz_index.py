"""The reader of `model.safetensors.index.json`, in a folder with two sound shards."""

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from mistral_edu.weights.checkpoint import INDEX_FILE, open_safetensors
from mistral_edu.weights.errors import WeightsError
from tests.fuzz.harness import main, put

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz_index_"))
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SOUND = {"a": torch.ones(2), "b": torch.zeros(3), "c": torch.full((1,), 7.0)}
PLACES = {"a": ONE, "b": ONE, "c": TWO}


def index(places: object) -> bytes:
    """An index file with these places."""
    return json.dumps({"metadata": {"total_size": 24}, "weight_map": places}).encode()


SEEDS = [
    index(PLACES),
    index({**PLACES, "c": ONE}),
    index({**PLACES, "d": "../x.safetensors"}),
    index({"a": {"b": ["c"]}}),
    index([]),
    b'{"weight_map": {"a": "' + ONE.encode() + b'", "a": "' + TWO.encode() + b'"}}',
    b'{"weight_map":' * 40,
]


def check(data: bytes) -> None:
    """An index is refused, or every tensor is the one in the shards."""
    put(FOLDER / INDEX_FILE, data)
    try:
        source = open_safetensors(FOLDER)
    except WeightsError:
        return
    assert set(source.names()) == set(SOUND), source.names()
    assert all(torch.equal(source.read(name), tensor) for name, tensor in SOUND.items())


save_file({"a": SOUND["a"], "b": SOUND["b"]}, FOLDER / ONE)
save_file({"c": SOUND["c"]}, FOLDER / TWO)

if __name__ == "__main__":
    main(check, seeds=SEEDS)
