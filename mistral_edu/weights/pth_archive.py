"""A `.pth` file as an archive: what must hold before torch opens it.

    file = zip archive, nothing compressed:  name/data.pkl · name/data/0 · name/data/1 · …

`data.pkl` is a pickle: a program that builds the dictionary of tensors. A hostile one runs any
command. `torch.load(weights_only=True)` refuses to, and had a hole all the same (CVE-2025-32434,
closed in torch 2.6). So the program is read here first, step by step, and may name only the few
functions that a checkpoint needs. Then it is run with stand-ins for them, which do nothing, to see
which bytes it claims: a mapped file is read wherever the program points, even past an entry's end.

Source: the layout that `torch.save` has written since torch 1.6.
Lesson: 11_weights.

Conventions
    Every byte of an entry is a byte of the file and of no other entry: nothing compressed, so no
    zip bomb, and no two entries of one name, which two readers could resolve in two ways.
    torch writes a checksum for every entry, or zero where it was told not to. Loading does not read
    the checksums, for that would read the file twice; `require_checksums` does.
"""

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mistral_edu.weights.errors import WeightsError, listed

LARGEST_READ = 4 * 2**20  # bytes; Mistral-7B's data.pkl and list of entries have 50,000 each
PIECE = 2**20
PROGRAM, PROTOCOL = "data.pkl", 2
DIRECTORY = 0x10  # in the attributes that MS-DOS had
LOCAL_HEADER = struct.Struct("<4s22xHH")  # "PK\3\4", …, length of the name, length of the rest
STORAGES = {"BFloat16Storage": 2, "HalfStorage": 2, "FloatStorage": 4, "DoubleStorage": 8}
ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {storage}" for storage in STORAGES),
}
# Other ways in which a pickle can name a function or make an object; torch.save uses none of them.
UNEXPECTED = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}


class _Bounded(io.FileIO):
    """A file of which nobody reads more at once than a real checkpoint's lists need."""

    def read(self, size: int | None = -1) -> bytes:
        wanted = LARGEST_READ if size is None or size < 0 else size
        if wanted > LARGEST_READ:
            raise zipfile.BadZipFile(f"a list of {wanted} bytes, expected at most {LARGEST_READ}")
        return super().read(wanted) or b""


class _Rehearsal(pickle.Unpickler):
    """Runs a program that was found harmless, with stand-ins; keeps what it claims to be stored."""

    def __init__(self, program: bytes) -> None:
        super().__init__(io.BytesIO(program))
        self.storages: list[Any] = []
        self.tensors: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        stand_ins = {
            "OrderedDict": OrderedDict,
            "_rebuild_tensor_v2": lambda *arguments: self.tensors.append(arguments),
            "_rebuild_parameter": lambda *arguments: None,
        }
        return stand_ins.get(name, name)  # a type of storage is its own name

    def persistent_load(self, claim: Any) -> Any:
        self.storages.append(claim)
        return claim


def require_archive(path: str | Path) -> None:
    """Check a `.pth` file's archive and its pickle, reading no tensor.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if it is no whole archive of `torch.save`, or its pickle names anything that
            a checkpoint of weights does not need, or claims bytes that are not its own.
    """
    path = Path(path)
    if not path.is_file():  # also of a pipe or a device, which could be read for ever
        raise FileNotFoundError(f"{path} does not exist, or is no file: give a .pth file")
    try:
        with _Bounded(str(path)) as file, zipfile.ZipFile(file) as archive:
            problems = _problems(archive, file)
    except Exception as error:  # readers of zip and of pickles fail in too many ways to name
        raise WeightsError(
            f"{path} is damaged, or was not written by torch 1.6 or later "
            f"({type(error).__name__}: {str(error)[:200]}): copy or download it again"
        ) from error
    if problems:
        raise WeightsError(f"{path} is not a checkpoint of weights:\n{listed(problems)}")


def require_checksums(path: str | Path) -> None:
    """Read every byte of a `.pth` file and hold it against the checksums inside.

    Raises:
        WeightsError: if an entry differs from its checksum; a bit was flipped since it was written.
    """
    try:
        with _Bounded(str(path)) as file, zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                # Zero: written by torch.serialization.set_crc32_options(False).
                if entry.CRC:
                    with archive.open(entry) as stream:
                        while stream.read(PIECE):
                            pass
    except Exception as error:
        raise WeightsError(f"{path} is damaged ({error}): copy or download it again") from error


def _problems(archive: zipfile.ZipFile, file: io.FileIO) -> list[str]:
    """What the first check that finds anything finds; each relies on those before it."""
    found = list(_entry_problems(archive)) or list(_overlaps(archive, file))
    if found:
        return found
    (entry,) = _named(archive)
    program, root = _program(archive, entry), entry.filename.removesuffix(PROGRAM)
    return list(_program_problems(program)) or list(_claim_problems(archive, root, program))


def _entry_problems(archive: zipfile.ZipFile) -> Iterator[str]:
    entries = archive.infolist()
    names = [entry.filename.casefold() for entry in entries]  # torch's reader ignores case
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            yield f"{entry.filename[:80]}: is compressed"
        if entry.external_attr & DIRECTORY:  # torch's reader would find nothing in it
            yield f"{entry.filename[:80]}: is marked as a folder"
    if len(set(names)) != len(names):
        yield "two entries have one name"
    if [name.endswith(PROGRAM) for name in names].count(True) != 1 or not _named(archive):
        yield f"it does not hold exactly one {PROGRAM}"


def _overlaps(archive: zipfile.ZipFile, file: io.FileIO) -> Iterator[str]:
    """Entries that reach into the next one, or lack their own header."""
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    limits = [*(entry.header_offset for entry in entries[1:]), archive.start_dir]
    for entry, limit in zip(entries, limits, strict=True):
        file.seek(entry.header_offset)
        sign, name, rest = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        start = entry.header_offset + LOCAL_HEADER.size + name + rest
        if sign != b"PK\3\4" or start + entry.file_size > limit:
            yield f"{entry.filename[:80]}: claims bytes that are not its own"


def _named(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [entry for entry in archive.infolist() if entry.filename.endswith(PROGRAM)]


def _program(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > LARGEST_READ:
        raise ValueError(f"its {PROGRAM} has {entry.file_size} bytes, expected ≤ {LARGEST_READ}")
    if not entry.CRC:
        del entry.CRC  # no checksum was written, so none is checked
    with archive.open(entry) as stream:
        return b"".join(iter(lambda: stream.read(PIECE), b""))


def _program_problems(program: bytes) -> Iterator[str]:
    """Every step of a pickle that a checkpoint of weights does not need, without running one.

    >>> list(_program_problems(pickle.dumps(print, protocol=2)))
    ["its pickle names '__builtin__ print'"]
    >>> list(_program_problems(pickle.dumps({"a": [1, 2]}, protocol=2)))
    []
    """
    for step, argument, _ in pickletools.genops(program):
        if step.name == "GLOBAL" and argument not in ALLOWED:
            yield f"its pickle names {str(argument)[:80]!r}"
        elif step.name == "PROTO" and argument != PROTOCOL:
            yield f"its pickle is of protocol {argument}, expected {PROTOCOL}"
        elif step.name in UNEXPECTED:
            yield f"its pickle makes objects by {step.name}"
        elif step.name.endswith("PUT") and int(argument or 0) > len(program):
            yield f"its pickle asks for {argument} places"  # and Python would make room for them


def _claim_problems(archive: zipfile.ZipFile, root: str, program: bytes) -> Iterator[str]:
    """Every storage that is not in the archive in that size, and tensor that leaves its storage."""
    rehearsal = _Rehearsal(program)
    rehearsal.load()
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    for kind, storage, key, _, numbers in rehearsal.storages:
        name, size = f"{root}data/{key}", numbers * STORAGES[storage]
        if kind != "storage" or sizes.get(name) != size:
            yield f"{name[:80]}: has {sizes.get(name, 'no')} bytes, and the pickle claims {size}"
    for (*_, key, _, numbers), offset, shape, steps, *_ in rehearsal.tensors:
        whole = (offset, *shape, *steps)
        last = offset + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))
        fits = last < numbers if 0 not in shape else offset <= numbers
        # torch would make the storage larger, and the tensor would hold whatever memory held.
        if min(whole) < 0 or not fits:
            yield f"{root}data/{key}: has {numbers} numbers, and a tensor goes to number {last}"
