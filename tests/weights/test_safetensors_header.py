"""Headers that lie: each is refused by name, before anything is read or reserved for it."""

import json
import tracemalloc

import pytest
import torch
from safetensors.torch import save

from mistral_edu.weights.errors import WeightsError
from mistral_edu.weights.safetensors_files import open_safetensors_file
from mistral_edu.weights.safetensors_header import header_length, parse_header
from mistral_edu.weights.strict_json import LARGEST


def entry(dtype="F32", shape=(2,), begin=0, end=8, **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


def refusal(fields, data_size=8):
    header = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    with pytest.raises(WeightsError) as caught:
        parse_header(header, data_size, "the file")
    return str(caught.value)


WRONG_ENTRIES = {
    "an unknown type": (entry("F4"), "type 'F4' is none of BOOL, U8"),
    "a type that is no text": (entry(["F32"]), "is none of"),
    "a shape that is no list": ({**entry(), "shape": 2}, "2 is not a list of whole numbers"),
    "a negative axis": (entry(shape=[-2]), "not a list of whole numbers"),
    "an axis that is true": (entry(shape=[True, 2]), "not a list of whole numbers"),
    "an axis that is a fraction": (entry(shape=[2.0]), "not a list of whole numbers"),
    "an axis beyond 64 bits": (entry(shape=[2**64]), "not a list of whole numbers"),
    "an empty tensor of absurd axes": (entry(shape=[0, 2**62], end=0), "is no tensor's"),
    "too many axes": (entry(shape=[1] * 9, end=4), "is no tensor's"),
    "bytes that do not fit the shape": (entry(shape=[3]), "do not span the 12 bytes it needs"),
    "an end before the beginning": (entry(begin=8, end=0), "do not span"),
    "three offsets": ({**entry(), "data_offsets": [0, 8, 8]}, "do not span"),
    "a field too many": (entry(more=1), "not exactly the fields"),
    "a field too few": ({"dtype": "F32", "shape": [2]}, "not exactly the fields"),
    "no object": (7, "not exactly the fields"),
}


@pytest.mark.parametrize(("value", "said"), WRONG_ENTRIES.values(), ids=WRONG_ENTRIES.keys())
def test_an_entry_that_describes_no_tensor_is_named(value, said):
    message = refusal({"w": value})
    assert "the file is damaged" in message and "\n  w: " in message and said in message


def test_tensors_that_overlap_leave_a_gap_or_run_past_the_end_are_named():
    two = {"a": entry(), "b": entry(begin=4, end=12)}
    assert "b: begins at byte 4, expected 8" in refusal(two, 12)
    two["b"] = entry(begin=12, end=20)
    assert "b: begins at byte 12, expected 8" in refusal(two, 20)
    two["b"] = entry(begin=8, end=16)
    assert "the tensors end at byte 16, the data at 12" in refusal(two, 12)
    assert "the tensors end at byte 16, the data at 20" in refusal(two, 20)
    two["b"] = entry()
    assert "b: begins at byte 0, expected 8" in refusal(two, 8)


def test_every_wrong_tensor_is_listed_but_no_more_than_twenty():
    wrong = {f"w{i}": entry("F4") for i in range(50)}
    message = refusal(wrong)
    assert message.count("is none of") == 20 and "… and 30 more" in message


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b' {"a": 1}', "its header starts with b' ', expected '{'"),
        (b"[]", r"starts with b'\['"),
        (b"", "starts with b''"),
        (b'{"a": 1, "a": 2}', "the header of the file is not valid JSON .the key 'a' occurs twice"),
        (b'{"__metadata__": {"a": 1}}', "__metadata__ is not an object of texts"),
        (b'{"__metadata__": []}', "__metadata__ is not an object of texts"),
        (b"{\xff", "is not valid JSON"),
        (b'{"a": ' * 50_000, "is not valid JSON"),
    ],
)
def test_a_header_that_is_none_is_refused(header, said):
    with pytest.raises(WeightsError, match=said):
        parse_header(header, 0, "the file")


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_file_shorter_than_the_length_field_is_refused(tmp_path, size):
    (tmp_path / "file").write_bytes(bytes(size))
    with pytest.raises(WeightsError, match=f"has {size} bytes: no safetensors file is that short"):
        open_safetensors_file(tmp_path / "file")


@pytest.mark.parametrize("length", [10 * 2**30, 2**63, 2**64 - 1, LARGEST + 1])
def test_a_header_of_ten_gigabytes_costs_no_memory(tmp_path, length):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little") + b"{")
        file.truncate(20 * 2**30)  # takes no room on the disk
    tracemalloc.start()
    with pytest.raises(WeightsError, match=f"says that its header has {length} bytes"):
        open_safetensors_file(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_header_one_byte_longer_than_the_file_is_refused():
    assert header_length((2).to_bytes(8, "little"), 10, "the file") == 2
    with pytest.raises(WeightsError, match="says that its header has 3 bytes, expected at most 2"):
        header_length((3).to_bytes(8, "little"), 10, "the file")


def test_every_cut_of_a_file_is_refused(tmp_path):
    whole = save({"a": torch.ones(3), "b": torch.ones(2, dtype=torch.float16)})
    path = tmp_path / "file"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError):
            open_safetensors_file(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(WeightsError, match="the tensors end at byte 16, the data at 17"):
        open_safetensors_file(path)


def test_a_flipped_bit_of_the_header_is_refused_or_changes_a_name_or_a_type_only(tmp_path):
    """What a reader of the format can find out; the model's names and types find out the rest."""
    tensors = {"wa": torch.ones(3, 2), "wb": torch.ones(2, 2)}
    whole = save(tensors)
    header = 8 + int.from_bytes(whole[:8], "little")
    path, accepted = tmp_path / "file", 0
    for bit in range(8 * header):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            source = open_safetensors_file(path)
        except WeightsError:
            continue
        accepted += 1
        unchanged = all(
            (source.shape(name), source.dtype(name)) == (tuple(tensor.shape), tensor.dtype)
            for name, tensor in tensors.items()
            if name in source.names()
        )
        assert not unchanged or set(source.names()) != set(tensors), flipped[:header]
    assert 0 < accepted < 8 * header / 10
