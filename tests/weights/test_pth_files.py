"""`.pth` files: hostile, damaged, strange, and written as torch would have written them."""

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from mistral_edu.weights import WeightsError, pth_archive
from mistral_edu.weights.pth_files import open_pth
from mistral_edu.weights.pth_writing import write_pth


class Payload:
    """Unpickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive_of(program: bytes, **records: bytes) -> bytes:
    """The bytes of a `.pth` file with this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/byteorder", b"little")
        for name, data in records.items():
            archive.writestr(f"a/data/{name}", data)
        archive.writestr("a/version", b"3\n")
    return file.getvalue()


def refusal(path: Path, data: bytes) -> str:
    """What `open_pth` says of a file of these bytes."""
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        open_pth(path)
    return str(caught.value)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_a_command_is_refused_and_does_not_run(tmp_path, protocol):
    mark = tmp_path / "ran"
    program = pickle.dumps({"a": Payload(os.system, f"touch {mark}")}, protocol=protocol)
    said = refusal(tmp_path / "a.pth", archive_of(program))
    assert not mark.exists()
    assert "system" in said or "STACK_GLOBAL" in said
    pickle.loads(program)  # the payload works: it was the reader that did not run it
    assert mark.exists()


def test_a_bare_pickle_of_the_oldest_format_does_not_run(tmp_path):
    mark = tmp_path / "ran"
    data = pickle.dumps(Payload(os.system, f"touch {mark}"))
    assert "was not written by torch 1.6 or later" in refusal(tmp_path / "a.pth", data)
    assert not mark.exists()


def test_a_function_of_torch_that_writes_files_is_refused(tmp_path):
    program = pickle.dumps({"a": Payload(torch.save, 1, str(tmp_path / "ran"))}, protocol=2)
    assert "torch.serialization save" in refusal(tmp_path / "a.pth", archive_of(program))
    assert not (tmp_path / "ran").exists()


def test_what_torch_itself_would_allow_but_no_checkpoint_needs_is_refused(tmp_path):
    program = pickle.dumps({"a": Payload(bytearray, 10**13)}, protocol=2)
    assert "bytearray" in refusal(tmp_path / "a.pth", archive_of(program))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([torch.ones(2)], "holds a list, expected a dictionary of tensors"),
        (torch.ones(2), "holds a Tensor"),
        ({"model": {"a": torch.ones(2)}}, "model: is a dict, expected a tensor"),
        ({"a": 3}, "a: is a int, expected a tensor"),
        ({"a": torch.ones(2, dtype=torch.int8)}, "pickle names 'torch CharStorage'"),
        ({3: torch.ones(2)}, "3: is no name"),
        ({"a": torch.ones(1).expand(10**6)}, "more numbers than the file holds"),
    ],
)
def test_anything_but_a_dictionary_of_plain_tensors_is_refused(tmp_path, found, said):
    file = io.BytesIO()
    torch.save(found, file)
    assert said in refusal(tmp_path / "a.pth", file.getvalue())


@pytest.mark.parametrize(("claimed", "size"), [(3, 12), (2**30, 2**32), (1, 4), (0, 0)])
def test_a_storage_that_claims_other_bytes_than_its_own_is_refused(tmp_path, claimed, size):
    """Mapped, torch would read whatever lies behind the entry, and say nothing."""
    file = io.BytesIO()
    torch.save({"a": torch.ones(2)}, file)
    with zipfile.ZipFile(file) as archive:
        program = archive.read("archive/data.pkl")
    assert program.count(b"K\x02") >= 2  # the number 2: in the storage and in the shape
    lying = program.replace(b"K\x02", b"J" + claimed.to_bytes(4, "little"))
    said = refusal(tmp_path / "a.pth", archive_of(lying, **{"0": bytes(8)}))
    assert f"a/data/0: has 8 bytes, and the pickle claims {size}" in said


@pytest.mark.parametrize(
    ("before", "after", "last"),
    [
        (b"QK\x01K\x03", b"QK\x02K\x03", 4),  # three numbers from the third of four
        (b"QK\x01K\x03", b"QK\x01K\x04", 4),  # four from the second
        (b"K\x03\x85q\x08K\x01", b"K\x03\x85q\x08K\x02", 5),  # every second
        (b"QK\x01K\x03", b"QJ\xff\xff\xff\xffK\x03", 1),  # three from the one before the first
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(tmp_path, before, after, last):
    """torch makes the storage larger, with whatever was in memory; a fuzzer found this."""
    file = io.BytesIO()
    torch.save({"a": torch.arange(4.0)[1:]}, file)
    with zipfile.ZipFile(file) as archive:
        program = archive.read("archive/data.pkl")
    assert program.count(before) == 1
    lying = archive_of(program.replace(before, after), **{"0": bytes(16)})
    assert f"has 4 numbers, and a tensor goes to number {last}" in refusal(tmp_path / "a", lying)
    (tmp_path / "a").write_bytes(archive_of(program, **{"0": bytes(16)}))
    assert open_pth(tmp_path / "a").shape("a") == (3,)


def test_an_entry_that_reaches_into_the_next_is_refused(tmp_path):
    file = io.BytesIO()
    torch.save({"a": torch.arange(4.0), "b": torch.arange(4.0)}, file)
    data = bytearray(file.getvalue())
    header = data.find(b"PK\3\4", data.find(b"archive/data/0") - 40)
    data[header + 28 : header + 30] = (200).to_bytes(2, "little")  # its own header grows by so much
    said = refusal(tmp_path / "a.pth", bytes(data))
    assert "archive/data/0: claims bytes that are not its own" in said


def test_an_entry_marked_as_a_folder_is_refused(tmp_path):
    """torch, not mapping, leaves such a tensor as the memory was; a fuzzer found this too."""
    file = io.BytesIO()
    torch.save({"a": torch.arange(4.0)}, file)
    data = bytearray(file.getvalue())
    listed = data.find(b"archive/data/0", data.find(b"PK\1\2"))
    data[listed - 46 + 38] |= 0x10
    said = refusal(tmp_path / "a.pth", bytes(data))
    assert "archive/data/0: is marked as a folder" in said


def test_places_without_number_are_refused(tmp_path):
    """Python's unpickler would make a list of 2^31 places, 16 GB, for one opcode of five bytes."""
    program = b"\x80\x02}r\xff\xff\xff\x7f."
    assert "asks for 2147483647 places" in refusal(tmp_path / "a.pth", archive_of(program))


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, -1, -30])
def test_a_truncated_archive_is_named(tmp_path, kept):
    file = io.BytesIO()
    torch.save({"a": torch.arange(1000.0)}, file)
    data = file.getvalue()
    end = int(len(data) * kept) if isinstance(kept, float) else kept
    assert "is damaged" in refusal(tmp_path / "a.pth", data[:end])


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(50_000_000))
    assert len(file.getvalue()) < 100_000
    assert "a/data.pkl: is compressed" in refusal(tmp_path / "a.pth", file.getvalue())


def test_a_huge_pickle_is_not_read(tmp_path):
    program = b"\x80\x02}q\x00" + b"0" * (pth_archive.LARGEST_READ + 1)
    assert "data.pkl has" in refusal(tmp_path / "a.pth", archive_of(program))


def test_a_huge_list_of_entries_is_not_read(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(200):
            archive.writestr(f"{number:>30000}", b"")
    assert "a list of" in refusal(tmp_path / "a.pth", file.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/data.pkl", "b/data.pkl"], "exactly one data.pkl"),
        (["a/version"], "exactly one data.pkl"),
        (["a/data.pkl", "a/DATA.PKL"], "two entries have one name"),
        (["a/data.pkl", "a/data/0", "a/data/0"], "two entries have one name"),
    ],
)
def test_an_archive_that_two_readers_could_read_in_two_ways_is_refused(tmp_path, names, said):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, pickle.dumps({}, protocol=2))
    assert said in refusal(tmp_path / "a.pth", file.getvalue())


def test_a_flipped_bit_in_the_weights_is_found_by_its_checksum(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    pth_archive.require_checksums(path)
    data = bytearray(path.read_bytes())
    place = data.find(bytes(4000)) + 2000
    data[place] ^= 1
    path.write_bytes(data)
    open_pth(path)  # loading does not read the checksums
    with pytest.raises(WeightsError, match="Bad CRC-32 for file 'a/data/0'"):
        pth_archive.require_checksums(path)


def test_a_file_written_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(3.0)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert open_pth(tmp_path / "a.pth").read("a").tolist() == [0, 1, 2]
    pth_archive.require_checksums(tmp_path / "a.pth")


def test_tensors_that_share_memory_are_read_each_for_itself(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    shared = {"a": whole, "b": whole, "c": whole[1:], "d": whole.t(), "e": whole[:, 1]}
    torch.save(shared, tmp_path / "a.pth")
    source = open_pth(tmp_path / "a.pth")
    for name, tensor in shared.items():
        assert torch.equal(source.read(name), tensor)
    source.read("a").zero_()
    assert torch.equal(source.read("b"), whole)


def test_a_program_that_fails_is_named(tmp_path):
    """A parameter of nothing: harmless to rehearse, and torch cannot make it."""
    program = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_parameter\n)Rs."
    assert "is damaged (TypeError" in refusal(tmp_path / "a.pth", archive_of(program))


def test_parameters_and_ordered_dictionaries_are_read(tmp_path):
    model = torch.nn.Linear(2, 3, dtype=torch.bfloat16)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    torch.save(collections.OrderedDict(model.named_parameters()), tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        read = open_pth(tmp_path / name).read("weight")
        assert torch.equal(read, model.weight) and not read.requires_grad


def test_a_file_that_was_replaced_meanwhile_is_noticed(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    source = open_pth(tmp_path / "a.pth")
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="changed while it was read"):
        source.read("a")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(FileNotFoundError, match="or is no file"):
        open_pth(tmp_path / "a.pth")


# ── written ──────────────────────────────────────────────────────────────────────────────────────


def test_what_we_write_is_what_torch_save_would_have_written(tmp_path):
    tensors = {
        "matrix": torch.arange(6.0).view(2, 3).bfloat16(),
        "vector": torch.arange(5.0).half(),
        "number": torch.tensor(1.5),
        "nothing": torch.zeros(0, 4, dtype=torch.float64),
    }
    plan = [(name, t.dtype, tuple(t.shape), t.clone) for name, t in tensors.items()]
    write_pth(tmp_path / "a.pth", plan)
    for mapped in (False, True):
        found = torch.load(tmp_path / "a.pth", weights_only=True, mmap=mapped)
        assert list(found) == list(tensors)
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
            assert found[name].is_contiguous()
            assert not mapped or found[name].numel() == 0 or found[name].data_ptr() % 64 == 0
    pth_archive.require_checksums(tmp_path / "a.pth")
    assert open_pth(tmp_path / "a.pth").names() == list(tensors)


def test_a_large_entry_has_a_long_header_and_is_aligned(tmp_path, monkeypatch):
    monkeypatch.setattr("mistral_edu.weights.pth_writing.LARGE", 100)
    tensor = torch.arange(1000.0)
    write_pth(tmp_path / "a.pth", [("a", torch.float32, (1000,), lambda: tensor)])
    found = torch.load(tmp_path / "a.pth", weights_only=True, mmap=True)["a"]
    assert torch.equal(found, tensor) and found.data_ptr() % 64 == 0


def test_a_tensor_that_is_not_what_was_announced_leaves_no_file(tmp_path):
    with pytest.raises(WeightsError, match="was announced"):
        write_pth(tmp_path / "a.pth", [("a", torch.float32, (2,), lambda: torch.ones(3))])
    assert list(tmp_path.iterdir()) == []
