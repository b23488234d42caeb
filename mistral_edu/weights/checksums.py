"""Was a downloaded checkpoint damaged afterwards? The hub's cache can tell, a plain folder cannot.

The cache names every file by a hash of what was sent: SHA-256 for large files, git's own SHA-1 for
small ones. Reading a checkpoint again and comparing finds every flipped bit. A safetensors file by
itself has no checksum: there a flipped bit shows only where it breaks the header.

Lesson: 11_weights.
"""

import hashlib
import re
from io import BufferedReader
from pathlib import Path

HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def altered_files(folder: str | Path) -> list[str]:
    """Names of the files in a cached snapshot that are no longer what was downloaded.

    Args:
        folder: what `local_folder` returned for a repository; it is read as a whole.

    Returns:
        Names, sorted; of a file that is no link into the cache nothing is known, nor said.

    >>> from mistral_edu.paths import data_dir
    >>> altered_files(data_dir() / "tiny")
    []
    """
    altered = []
    for path in sorted(Path(folder).iterdir()):
        expected = path.resolve().name
        if path.is_symlink() and HASH.fullmatch(expected):
            with path.open("rb") as file:
                if _hash(file, len(expected)) != expected:
                    altered.append(path.name)
    return altered


def _hash(file: BufferedReader, digits: int) -> str:
    """SHA-256 for 64 digits; for 40, the SHA-1 that git gives a file, its size before its bytes."""
    if digits == 64:
        return hashlib.file_digest(file, "sha256").hexdigest()
    data = file.read()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
