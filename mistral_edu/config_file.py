"""`config.json` on disk: read as untrusted text, written whole or not at all.

Lesson: 11_weights.

Conventions
    The file is data: what is no single JSON object is a ValueError that names the path
    (`weights.strict_json`). `weights` is imported when it is needed, since it needs the config.
"""

import json
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.json"


def read_config(folder: str | Path) -> dict[str, Any]:
    """The fields of the `config.json` in `folder`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a JSON object of reasonable size and depth.
    """
    from mistral_edu.weights.strict_json import read_object

    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a folder that save_pretrained wrote")
    return read_object(path)


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
    from mistral_edu.weights.whole_files import whole_file

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
    with whole_file(folder / CONFIG_FILE) as file:
        file.write(text.encode() + b"\n")
