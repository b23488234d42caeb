"""A `.pth` file as an archive: what must hold before anything in it is unpickled.

    file = zip archive, nothing compressed:  name/data.pkl · name/data/0 · name/data/1 · …

`data.pkl` is a pickle: a program that builds the dictionary of tensors. A hostile one runs any
command. `torch.load(weights_only=True)` refuses to, and had a hole all the same (CVE-2025-32434,
closed in torch 2.6). So the program is read here first, without running it, and may name only the
few functions that a checkpoint needs.

Source: the layout that `torch.save` has written since torch 1.6.
Lesson: 11_weights.

Conventions
    Every byte of an entry is a byte of the file: nothing compressed, so no zip bomb, and no two
    entries of one name, which two readers could resolve in two ways.
    torch writes a checksum for every entry, or zero where it was told not to. Loading does not read
    the checksums, for that would read the file twice; `require_checksums` does.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mistral_edu.weights.errors import WeightsError, listed

LARGEST_READ = 4 * 2**20  # bytes; Mistral-7B's data.pkl and list of entries have 50,000 each
PIECE = 2**20
ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch BFloat16Storage",
    "torch HalfStorage",
    "torch FloatStorage",
    "torch DoubleStorage",
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


def require_archive(path: str | Path) -> None:
    """Check a `.pth` file's archive and its pickle, running and loading nothing.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if it is no whole archive of `torch.save`, or its pickle names anything that
            a checkpoint of weights does not need.
    """
    path = Path(path)
    if not path.is_file():  # also of a pipe or a device, which could be read for ever
        raise FileNotFoundError(f"{path} does not exist, or is no file: give a .pth file")
    try:
        with _Bounded(str(path)) as file, zipfile.ZipFile(file) as archive:
            problems = list(_entry_problems(archive, path.stat().st_size))
            if not problems:
                problems = list(_pickle_problems(_program(archive)))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise WeightsError(
            f"{path} is damaged, or was not written by torch 1.6 or later ({error}): "
            "copy or download it again"
        ) from error
    if problems:
        raise WeightsError(f"{path} is not a checkpoint of weights:\n{listed(problems)}")


def require_checksums(path: str | Path) -> None:
    """Read every byte of a `.pth` file and hold it against the checksums inside.

    Raises:
        WeightsError: if an entry differs from its checksum; a bit was flipped since it was written.
    """
    with _Bounded(str(path)) as file, zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if not entry.CRC:  # written without: torch.serialization.set_crc32_options(False)
                continue
            try:
                with archive.open(entry) as stream:
                    while stream.read(PIECE):
                        pass
            except zipfile.BadZipFile as error:
                raise WeightsError(
                    f"{path} is damaged ({error}): copy or download it again"
                ) from error


def _entry_problems(archive: zipfile.ZipFile, size: int) -> Iterator[str]:
    entries = archive.infolist()
    names = [entry.filename.casefold() for entry in entries]  # torch's reader ignores case
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            yield f"{entry.filename[:80]}: is compressed"
    if sum(entry.file_size for entry in entries) > size:
        yield "its entries claim more bytes than the file has"
    if len(set(names)) != len(names):
        yield "two entries have one name"
    if sum(name.endswith("data.pkl") for name in names) != 1:
        yield "it does not hold exactly one data.pkl"


def _program(archive: zipfile.ZipFile) -> bytes:
    entry = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
    if entry.file_size > LARGEST_READ:
        raise ValueError(f"its data.pkl has {entry.file_size} bytes, expected ≤ {LARGEST_READ}")
    if not entry.CRC:
        del entry.CRC  # no checksum was written, so none is checked
    with archive.open(entry) as stream:
        return b"".join(iter(lambda: stream.read(PIECE), b""))


def _pickle_problems(program: bytes) -> Iterator[str]:
    """Every step of a pickle that a checkpoint of weights does not need, without running one.

    >>> import pickle
    >>> list(_pickle_problems(pickle.dumps(print, protocol=2)))
    ["its pickle names '__builtin__ print'"]
    >>> list(_pickle_problems(pickle.dumps({"a": [1, 2]}, protocol=2)))
    []
    """
    for step, argument, _ in pickletools.genops(program):
        if step.name == "GLOBAL" and argument not in ALLOWED:
            yield f"its pickle names {str(argument)[:80]!r}"
        elif step.name in UNEXPECTED:
            yield f"its pickle makes objects by {step.name}"
