"""One file, read a tensor at a time: equal to the library, mapped, and private."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.safetensors_files import open_safetensors_file
from mistral_edu.weights.safetensors_header import DTYPES

MAPS = Path("/proc/self/maps")
TENSORS = {name.lower(): torch.arange(6).view(2, 3).to(dtype) for name, dtype in DTYPES.items()}
TENSORS |= {"scalar": torch.tensor(-1.5), "none": torch.zeros(0, 4), "großes Ω": torch.ones(3)}


@pytest.fixture
def path(tmp_path):
    save_file(TENSORS, tmp_path / "file.safetensors")
    return tmp_path / "file.safetensors"


def unpadded(path):
    """The same file with a header of odd length, so that no tensor lies where its type wants it."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + length].rstrip()
    header += b" " * (1 - len(header) % 2)
    path.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    assert len(header) % 2 == 1
    return path


@pytest.mark.parametrize("prepare", [lambda path: path, unpadded], ids=["padded", "not padded"])
def test_every_tensor_is_what_the_library_reads(path, prepare):
    source = open_safetensors_file(prepare(path))
    with safe_open(path, "pt") as library:
        assert sorted(source.names()) == sorted(library.keys())
        for name in source.names():
            theirs = library.get_tensor(name)
            assert (source.dtype(name), source.shape(name)) == (theirs.dtype, tuple(theirs.shape))
            assert source.read(name).dtype == theirs.dtype
            # Compared as float64: torch cannot compare eight-bit floats.
            assert torch.equal(source.read(name).double(), theirs.double()), name
            assert source.read(name).data_ptr() % theirs.dtype.itemsize == 0


def test_writing_to_a_tensor_changes_neither_the_file_nor_another_reading(path):
    before = path.read_bytes()
    source = open_safetensors_file(path)
    tensor = source.read("f32")
    tensor.zero_()
    assert path.read_bytes() == before
    assert torch.equal(source.read("f32"), TENSORS["f32"])


def test_a_tensor_outlives_its_source_and_its_file(path):
    tensor = open_safetensors_file(path).read("f64")
    path.unlink()
    assert torch.equal(tensor, TENSORS["f64"])


@pytest.mark.skipif(not MAPS.exists(), reason="looks into Linux's /proc")
def test_only_the_tensors_in_hand_are_mapped(tmp_path):
    save_file({f"t{i}": torch.zeros(1 << 18) for i in range(8)}, tmp_path / "file")  # 1 MB each
    source = open_safetensors_file(tmp_path / "file")

    def mapped():
        lines = MAPS.read_text(encoding="utf-8").splitlines()
        ranges = [line.split()[0] for line in lines if str(tmp_path / "file") in line]
        ends = [[int(end, 16) for end in one.split("-")] for one in ranges]
        return sum(end - start for start, end in ends) / 2**20

    assert mapped() == 0
    held = [source.read("t0"), source.read("t5")]
    assert 2 <= mapped() < 2.1
    del held
    assert mapped() == 0


@pytest.mark.parametrize("change", ["replaced", "cut short", "written to"])
def test_a_file_that_changes_after_it_was_checked_is_not_read(path, change):
    source = open_safetensors_file(path)
    if change == "replaced":
        save_file({"f32": torch.ones(1)}, path.with_name("other"))
        path.with_name("other").replace(path)
    elif change == "cut short":
        os.truncate(path, 100)
    else:
        os.utime(path, ns=(1, 1))
    with pytest.raises(WeightsError, match="changed while it was read: load it again"):
        source.read("f32")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_folder_is_no_file_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match="does not exist, or is no file"):
            open_safetensors_file(path)
