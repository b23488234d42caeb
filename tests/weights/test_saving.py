"""Writing safetensors: byte for byte the library's file, streamed, whole, and in shards."""

import json
import weakref

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mistral_edu.weights import saving
from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.safetensors_header import DTYPES
from mistral_edu.weights.saving import write_safetensors, write_sharded
from mistral_edu.weights.sources import open_safetensors, open_safetensors_file


def planned(tensors):
    return [(name, t.dtype, tuple(t.shape), lambda t=t: t) for name, t in tensors.items()]


def numbered(*sizes, dtype=torch.float32):
    """Tensors a, b, c … of these many numbers, all different."""
    return {
        chr(ord("a") + i): torch.arange(size, dtype=dtype) + 100 * i for i, size in enumerate(sizes)
    }


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


TENSORS = {
    "every type": {name.lower(): torch.ones(3).to(dtype) for name, dtype in DTYPES.items()},
    "odd sizes": numbered(1, 2, 3, dtype=torch.bfloat16) | {"z": torch.ones(5, dtype=torch.uint8)},
    "a scalar and an empty one": {"s": torch.tensor(1.5), "e": torch.zeros(0, 7)},
    "nothing": {},
    "names beyond ASCII": {"größe": torch.ones(1), 'quote"': torch.ones(1), "層": torch.ones(1)},
    "layers past nine": {f"layers.{i}.w": torch.full((2,), float(i)) for i in range(12)},
}


@pytest.mark.parametrize("tensors", TENSORS.values(), ids=TENSORS.keys())
def test_our_file_is_the_library_s_byte_for_byte(tmp_path, tensors):
    write_safetensors(tmp_path / "ours", planned(tensors))
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tensors_that_are_views_or_need_gradients_are_written_as_they_look(tmp_path):
    matrix = torch.arange(6.0).view(2, 3)
    tensors = {"turned": matrix.T, "column": matrix[:, 1], "leaf": matrix.clone().requires_grad_()}
    write_safetensors(tmp_path / "file", planned(tensors))
    for name, tensor in load_file(tmp_path / "file").items():
        assert torch.equal(tensor, tensors[name].detach())


def test_every_tensor_starts_at_a_multiple_of_its_element_s_size(tmp_path):
    write_safetensors(tmp_path / "file", planned(TENSORS["odd sizes"]))
    source = open_safetensors_file(tmp_path / "file")
    for name in source.names():
        assert source.read(name).data_ptr() % source.dtype(name).itemsize == 0


def test_one_tensor_is_in_memory_at_a_time(tmp_path):
    alive = []

    def make():
        assert [ref for ref in alive if ref() is not None] == []
        numbers = np.zeros(1000, dtype=np.float32)  # lives as long as the tensor's memory is used
        alive.append(weakref.ref(numbers))
        return torch.from_numpy(numbers)

    write_sharded(tmp_path, [(f"t{i}", torch.float32, (1000,), make) for i in range(9)], 9000)
    assert len(alive) == 9


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (torch.zeros(2, dtype=torch.float16), "float32 of shape .3,. was announced, torch.float16"),
        (torch.zeros(2), "was announced, torch.float32 of shape .2,. was made"),
    ],
)
def test_a_tensor_that_is_not_what_was_announced_is_refused(tmp_path, made, said):
    with pytest.raises(WeightsError, match=said):
        write_safetensors(tmp_path / "file", [("a", torch.float32, (3,), lambda: made)])
    assert files(tmp_path) == {}


def test_a_name_twice_or_reserved_is_refused_even_in_two_shards(tmp_path):
    twice = planned(numbered(4)) * 2
    with pytest.raises(WeightsError, match="a: is named twice"):
        write_safetensors(tmp_path / "file", twice)
    with pytest.raises(WeightsError, match="a: is named twice"):
        write_sharded(tmp_path, twice, max_shard_bytes=16)
    with pytest.raises(WeightsError, match="__metadata__: .* reserves"):
        write_safetensors(tmp_path / "file", planned({"__metadata__": torch.ones(1)}))
    assert files(tmp_path) == {}


def test_a_type_that_the_format_lacks_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="cannot hold torch.complex128; cast it first"):
        write_safetensors(tmp_path / "file", planned({"a": torch.ones(1, dtype=torch.complex128)}))


@pytest.mark.parametrize("limit", [1, 15, 16, 17, 31, 32, 47, 48])
def test_shards_hold_what_fits_in_the_order_given(tmp_path, limit):
    tensors = numbered(4, 4, 4)  # 16 bytes each
    write_sharded(tmp_path, planned(tensors), max_shard_bytes=limit)
    per_shard = max(1, limit // 16)
    count = -(-3 // per_shard)
    source = open_safetensors(tmp_path)
    assert all(torch.equal(source.read(name), tensor) for name, tensor in tensors.items())
    if count == 1:
        assert list(files(tmp_path)) == ["model.safetensors"]
        return
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 48}
    shards = [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    assert index["weight_map"] == {n: shards[i // per_shard] for i, n in enumerate("abc")}
    assert sorted(files(tmp_path)) == [*shards, "model.safetensors.index.json"]


def test_shards_carry_the_metadata_that_transformers_asks_for(tmp_path):
    write_sharded(tmp_path, planned(numbered(4, 4)), max_shard_bytes=16)
    for shard in tmp_path.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            assert file.metadata() == {"format": "pt"}


SETS = {"single": 1000, "two shards": 32, "three shards": 16}


@pytest.mark.parametrize("new", SETS)
@pytest.mark.parametrize("old", SETS)
def test_a_new_set_takes_the_place_of_any_old_one(tmp_path, old, new):
    (tmp_path / "config.json").write_text("{}")
    write_sharded(tmp_path, planned(numbered(4, 4, 4)), SETS[old])
    changed = {name: tensor + 7 for name, tensor in numbered(4, 4, 4).items()}
    write_sharded(tmp_path, planned(changed), SETS[new])
    source = open_safetensors(tmp_path)
    assert all(torch.equal(source.read(name), tensor) for name, tensor in changed.items())
    write_sharded(tmp_path / "fresh", planned(changed), SETS[new])
    expected = {**files(tmp_path / "fresh"), "config.json": b"{}"}
    assert {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
    } == expected


@pytest.mark.parametrize("new", SETS)
@pytest.mark.parametrize("old", SETS)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_midway_leaves_the_old_set(tmp_path, old, new, error):
    def fail():
        raise error

    write_sharded(tmp_path, planned(numbered(4, 4, 4)), SETS[old])
    before = files(tmp_path)
    failing = [*planned(numbered(4, 4)), ("c", torch.float32, (4,), fail)]
    with pytest.raises(type(error)):
        write_sharded(tmp_path, failing, SETS[new])
    assert files(tmp_path) == before


@pytest.mark.parametrize("moves", range(8))
def test_a_move_that_fails_puts_the_old_shards_back(tmp_path, monkeypatch, moves):
    """As on Windows, where a file in use cannot be renamed."""
    tensors = planned(numbered(4, 4, 4))
    write_sharded(tmp_path, tensors, SETS["three shards"])
    before = files(tmp_path)
    left = iter(range(moves))

    def move_some(staging, folder, names):
        for name in names:
            if next(left, None) is None:
                raise PermissionError("in use")
            (staging / name).replace(folder / name)

    monkeypatch.setattr(saving, "move_all", move_some)
    with pytest.raises(PermissionError):
        write_sharded(tmp_path, planned(numbered(5, 5, 5)), 20)
    assert files(tmp_path) == before


def test_no_moment_of_a_move_mixes_old_shards_with_new_ones(tmp_path, monkeypatch):
    """A machine that stops anywhere leaves one set or the other, or a folder that has none."""
    old, new = numbered(4, 4), {name: t + 7 for name, t in numbered(4, 4).items()}
    write_sharded(tmp_path, planned(old), 16)
    seen = []

    def watch(staging, folder, names):
        for name in names:
            (staging / name).replace(folder / name)
            try:
                source = open_safetensors(tmp_path)
                held = {name: source.read(name) for name in source.names()}
            except FileNotFoundError:
                seen.append("none")
                continue
            seen.append("old" if all(torch.equal(held[n], old[n]) for n in held) else "new")
            assert all(torch.equal(held[n], (old if seen[-1] == "old" else new)[n]) for n in held)

    monkeypatch.setattr(saving, "move_all", watch)
    write_sharded(tmp_path, planned(new), 16)
    assert seen == ["none"] * 5 + ["new"]
