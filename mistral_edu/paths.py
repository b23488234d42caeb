"""Where the course keeps its data and its notebooks.

A clone has both folders at its root; an installed wheel carries copies inside the package. Code
that needs a file from either asks here and never builds such a path itself.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def clone_root() -> Path | None:
    """The root of the repository this package is imported from, or None for an installed wheel.

    >>> root = clone_root()
    >>> root is None or (root / "pyproject.toml").is_file()
    True
    """
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def data_dir() -> Path:
    """The folder of small models and recorded measurements, one folder each.

    Returns:
        An absolute path that exists.
    Raises:
        FileNotFoundError: neither the clone nor the package has the folder.

    >>> data_dir().is_absolute()
    True
    """
    return _folder("data")


def notebooks_dir() -> Path:
    """The folder of lessons.

    Returns:
        An absolute path that exists.
    Raises:
        FileNotFoundError: neither the clone nor the package has the folder.

    >>> notebooks_dir().is_absolute()
    True
    """
    return _folder("notebooks")


def _folder(name: str) -> Path:
    packaged = PACKAGE / f"_{name}"
    root = clone_root()
    candidates = [packaged] if root is None else [root / name, packaged]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    looked = " and ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(
        f"the course's {name} folder is missing (looked for {looked}); "
        "clone the repository again or reinstall mistral-edu"
    )
