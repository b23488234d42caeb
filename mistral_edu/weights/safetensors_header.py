"""The header of a safetensors file: where every tensor lies, said before the first byte of data.

    file   = length of the header (8 bytes, little-endian) · header · data
    header = {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, …}

Offsets count from the start of the data. Tensors lie side by side: no gap, no overlap, none left
over. So a header is checked against the size of the file with nothing else read, and a file is
written in one pass.

Source: the safetensors format description (huggingface/safetensors, README).
Lesson: 11_weights.

Conventions
    Numbers are little-endian, matrices row by row.
    A header is padded with spaces to a multiple of 8 bytes and tensors are laid down widest type
    first, so that every tensor starts at a multiple of its element's size.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from mistral_edu.weights import strict_json
from mistral_edu.weights.errors import WeightsError, listed

LENGTH_BYTES = 8
METADATA = "__metadata__"
MOST_AXES = 8
# From narrow to wide, in the order in which the safetensors library ranks types of equal width.
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """One tensor: its type, its shape, and its bytes [begin, end) counted from the data's start."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def size_of(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor.

    >>> size_of(torch.bfloat16, (2, 3))
    12
    """
    return math.prod(shape) * dtype.itemsize


def lay_out(tensors: Iterable[tuple[str, torch.dtype, tuple[int, ...]]]) -> dict[str, Entry]:
    """Give every tensor its place, in the library's order: widest type first, then by name.

    Raises:
        WeightsError: if a name occurs twice, or a type has no name in the format.

    >>> list(lay_out([("b", torch.float16, (2,)), ("a", torch.float16, (1,))]).items())[1]
    ('b', Entry(dtype=torch.float16, shape=(2,), begin=2, end=6))
    """
    ranks = {dtype: rank for rank, dtype in enumerate(NAMES)}
    tensors = list(tensors)
    for name, dtype, _ in tensors:
        if dtype not in ranks:
            raise WeightsError(f"{name}: a safetensors file cannot hold {dtype}; cast it first")
    entries: dict[str, Entry] = {}
    begin = 0
    for name, dtype, shape in sorted(tensors, key=lambda t: (-ranks[t[1]], t[0])):
        if name in entries or name == METADATA:
            raise WeightsError(f"{name}: is named twice, or is a name that the format reserves")
        entries[name] = Entry(dtype, tuple(shape), begin, begin + size_of(dtype, shape))
        begin = entries[name].end
    return entries


def header_bytes(entries: dict[str, Entry], metadata: dict[str, str]) -> bytes:
    """Everything that comes before the data: the length, then the padded header.

    >>> header_bytes({}, {})
    b'\\x08\\x00\\x00\\x00\\x00\\x00\\x00\\x00{}      '
    """
    fields: dict[str, Any] = {METADATA: metadata} if metadata else {}
    for name, entry in entries.items():
        fields[name] = {
            "dtype": NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.end],
        }
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def header_length(start: bytes, file_size: int, source: object) -> int:
    """Read the length of the header out of the file's first 8 bytes, and believe no lie.

    Raises:
        WeightsError: if the file is too short for it, or it is larger than any honest header.

    >>> header_length(bytes([2, 0, 0, 0, 0, 0, 0, 0]), file_size=10, source="this file")
    2
    """
    if len(start) < LENGTH_BYTES:
        raise WeightsError(f"{source} has {file_size} bytes: no safetensors file is that short")
    length = int.from_bytes(start, "little")
    largest = min(file_size - LENGTH_BYTES, strict_json.LARGEST)
    if length > largest:
        raise WeightsError(
            f"{source} says that its header has {length} bytes, expected at most {largest}: it is "
            "cut short or is no safetensors file; copy or download it again"
        )
    return length


def parse_header(header: bytes, data_size: int, source: object) -> dict[str, Entry]:
    """Read a header and hold it against the size of the data.

    Args:
        header: the JSON text.
        data_size: bytes that follow it in the file.
        source: what the file is, for messages.

    Returns:
        The tensors by name, in the order of their bytes.

    Raises:
        WeightsError: listing every tensor that does not fit.

    >>> header = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    >>> parse_header(header, 8, "this file")
    {'a': Entry(dtype=torch.float32, shape=(2,), begin=0, end=8)}
    """
    if header[:1] != b"{":
        raise WeightsError(f"{source}: its header starts with {header[:1]!r}, expected '{{'")
    fields = strict_json.parse_object(header, f"the header of {source}")
    metadata = fields.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise WeightsError(f"{source}: {METADATA} is not an object of texts")
    entries, problems = {}, []
    for name, value in fields.items():
        try:
            entries[name] = _entry(value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if not problems:
        entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
        problems = _misplaced(entries, data_size)
    if problems:
        raise WeightsError(f"{source} is damaged; copy or save it again:\n{listed(problems)}")
    return entries


def _counts(value: object) -> tuple[int, ...]:
    """`value` as whole numbers from 0 up; JSON's true is no number here."""
    if not isinstance(value, list) or not all(type(n) is int and 0 <= n < 2**63 for n in value):
        raise ValueError(f"{str(value)[:60]} is not a list of whole numbers from 0 up")
    return tuple(value)


def _entry(value: object) -> Entry:
    """One tensor's part of the header; a ValueError says what is wrong with it."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("has not exactly the fields dtype, shape and data_offsets")
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"type {value['dtype']!r} is none of {', '.join(DTYPES)}"[:200])
    shape, offsets = _counts(value["shape"]), _counts(value["data_offsets"])
    # An axis of 0 makes a tensor of no bytes, however absurd its other axes are.
    if len(shape) > MOST_AXES or math.prod(n for n in shape if n) >= 2**48:
        raise ValueError(f"shape {str(shape)[:60]} is no tensor's")
    if len(offsets) != 2 or offsets[1] - offsets[0] != size_of(dtype, shape):
        needs = size_of(dtype, shape)
        raise ValueError(f"data_offsets {list(offsets)[:3]} do not span the {needs} bytes it needs")
    return Entry(dtype, shape, *offsets)


def _misplaced(entries: dict[str, Entry], data_size: int) -> list[str]:
    """Every tensor that does not begin where the one before it ended; then the data's own end."""
    problems, end = [], 0
    for name, entry in entries.items():
        if entry.begin != end:
            problems.append(f"{name}: begins at byte {entry.begin}, expected {end}")
        end = entry.end
    if end != data_size:
        problems.append(f"the tensors end at byte {end}, the data at {data_size}")
    return problems
