"""Files that appear whole or not at all, alone or as a set.

Write under another name, make sure that it is on the disk, rename. A rename happens or does not,
so whatever stops the writing (an error, a full disk, Ctrl-C) leaves the old file as it was.

Lesson: 11_weights.
"""

import os
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes `path`'s place when the block ends well.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.txt"
    ...     with whole_file(path) as file:
    ...         _ = file.write(b"all of it")
    ...     path.read_text()
    'all of it'
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def whole_set(
    folder: str | Path, move: Callable[[Path, Path, list[str]], None] | None = None
) -> Iterator[Path]:
    """A folder to write in; its files move into `folder` together when the block ends well.

    Args:
        folder: made if absent.
        move: renames the files, given where they are, `folder` and their names; by default
            `move_all`. A Ctrl-C meanwhile is obeyed afterwards: half a set is worse than either.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_set(folder) as staging:
    ...         _ = (staging / "a.txt").write_text("a")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / f".unfinished.{secrets.token_hex(4)}"
    try:
        staging.mkdir()
        yield staging
        with uninterrupted():
            (move or move_all)(staging, folder, sorted(path.name for path in staging.iterdir()))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync_folder(folder)


def require_writable(target: Path) -> Path:
    """The folder that exists already and that `target` is to be made in.

    Raises:
        PermissionError: if it takes no files: it is someone else's, or no disk (/proc).

    >>> require_writable(Path("no/such/folder")) == Path.cwd()
    True
    """
    place = next(path for path in (target, *target.absolute().parents) if path.exists())
    if shutil.disk_usage(place).total == 0 or not os.access(place, os.W_OK):
        raise PermissionError(f"{target} cannot be written in {place}: choose another target")
    return place


def move_all(staging: Path, folder: Path, names: list[str]) -> None:
    """Rename files from `staging` into `folder`, one after the other."""
    for name in names:
        (staging / name).replace(folder / name)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a short block end before a Ctrl-C counts: a rename or a step of training, no writing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers Ctrl-C to the main thread only
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in `folder` are on the disk too, where a folder can be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
