"""The Protocol Buffers wire format: how a `tokenizer.model` file spells numbers and text.

    field  = varint(number << 3 | wire_type) + payload
    payload: wire type 0: varint · 1, 5: float of 8, 4 bytes · 2: varint length, then so many bytes
    varint = seven bits per byte, lowest first; the top bit says "more follows"

A message is fields one after the other, and a field may hold a message. That is the whole format,
so it needs no library. A file is data from a stranger: what does not fit is refused by name.

Source: the Protocol Buffers encoding guide. Built in lesson 01. Conventions: the order of fields is
kept; a varint is an int ≥ 0; 4 or 8 bytes are a float, the only such field here; what has a length
is bytes, for the caller to read as it knows best.
"""

import struct
from collections.abc import Iterator

VARINT, EIGHT_BYTES, LENGTH_PREFIXED, FOUR_BYTES = 0, 1, 2, 5
FLOATS = {EIGHT_BYTES: struct.Struct("<d"), FOUR_BYTES: struct.Struct("<f")}
LONGEST_VARINT = 10
HIGHEST_FIELD = (1 << 29) - 1

Read = int | float | bytes
Value = bool | Read | str


class TokenizerFileError(ValueError):
    """A tokenizer file is damaged, or needs something this tokenizer does not do."""


def damaged(what: str) -> TokenizerFileError:
    """Make the error for a file that is not what it should be, with the next step.

    >>> str(damaged("it stops early"))
    'not a readable tokenizer.model: it stops early; fetch the file again and compare its size'
    """
    return TokenizerFileError(
        f"not a readable tokenizer.model: {what}; fetch the file again and compare its size"
    )


def read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Read the varint of `data` at `start`; return its value and where the next thing begins.

    Raises TokenizerFileError if the data ends inside it or it has more than 64 bits.

    >>> read_varint(bytes([0b1010_1100, 0b0000_0010]), 0)
    (300, 2)
    """
    value = 0
    for place, byte in enumerate(data[start : start + LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80 and value < 1 << 64:
            return value, start + place + 1
    raise damaged(f"the number at byte {start} has no end or more than 64 bits")


def read_fields(data: bytes) -> Iterator[tuple[int, Read]]:
    """Walk over the fields of one message as (number, value); the wire type decides which type.

    Raises TokenizerFileError at the first field that does not fit into `data`.

    >>> list(read_fields(write_field(1, "hi") + write_field(3, 6)))
    [(1, b'hi'), (3, 6)]
    """
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= HIGHEST_FIELD:
            raise damaged(f"the field before byte {at} has number {number}, expected 1 to 2²⁹ − 1")
        if wire_type == VARINT:
            value, at = read_varint(data, at)
            yield number, value
            continue
        if wire_type == LENGTH_PREFIXED:
            length, at = read_varint(data, at)
        elif wire_type in FLOATS:
            length = FLOATS[wire_type].size
        else:
            raise damaged(f"wire type {wire_type} before byte {at} is none of 0, 1, 2, 5")
        if at + length > len(data):
            raise damaged(f"byte {at} promises {length} bytes but {len(data) - at} are left")
        payload = data[at : at + length]
        at += length
        yield number, FLOATS[wire_type].unpack(payload)[0] if wire_type in FLOATS else payload


def write_varint(value: int) -> bytes:
    """Spell a number ≥ 0 in seven-bit groups, lowest first.

    >>> write_varint(300).hex()
    'ac02'
    """
    spelled = bytearray()
    while value >= 0x80:
        spelled.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(spelled) + bytes([value])


def write_field(number: int, value: Value) -> bytes:
    """Write one field; the Python type of `value` chooses the wire type.

    >>> write_field(2, 1.0).hex(), write_field(1, "hi").hex()
    ('150000803f', '0a026869')
    """
    if isinstance(value, float):
        return write_varint(number << 3 | FOUR_BYTES) + FLOATS[FOUR_BYTES].pack(value)
    if isinstance(value, int):
        return write_varint(number << 3 | VARINT) + write_varint(value)
    payload = value.encode() if isinstance(value, str) else value
    return write_varint(number << 3 | LENGTH_PREFIXED) + write_varint(len(payload)) + payload
