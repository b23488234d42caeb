"""`config.json` on disk: read as untrusted text, written whole or not at all.

Lesson: 11_weights.

Conventions
    The file is data: too long, too deep, not UTF-8, not JSON, not an object, NaN, each is a
    ValueError that names the path. Writing goes to a temporary name, then renames.
"""

import json
import os
from pathlib import Path
from typing import Any, NoReturn

CONFIG_FILE = "config.json"
LONGEST = 2**24  # bytes; real files have a few hundred


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def read_config(folder: str | Path) -> dict[str, Any]:
    """The fields of the `config.json` in `folder`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a JSON object of reasonable size and depth.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a folder that save_pretrained wrote")
    if path.stat().st_size > LONGEST:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, expected at most {LONGEST:,}")
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): save the model again") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds a {type(fields).__name__}, expected a JSON object")
    return fields


def write_config(folder: str | Path, fields: dict[str, Any]) -> None:
    """Write `fields` as the `config.json` of `folder`, which is made if absent.

    Raises:
        ValueError: for a value that JSON cannot hold; nothing is written then.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_config(folder, {"hidden_size": 64})
    ...     read_config(folder)
    {'hidden_size': 64}
    """
    for name, value in fields.items():
        if callable(value):
            raise ValueError(
                f"{name} is the function {getattr(value, '__name__', value)!r}, which a JSON file "
                "cannot hold: give its name as a string before saving"
            )
    try:
        text = json.dumps(fields, indent=2, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"the config cannot be written as JSON ({error}): remove the field in question"
        ) from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{CONFIG_FILE}.{os.getpid()}"
    try:
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(folder / CONFIG_FILE)
    finally:
        unfinished.unlink(missing_ok=True)
