"""Write `constraints.txt` from what is installed here: the versions that were tested together.

    .venv/bin/python tools/pins.py

Left out: this package, pip, and the CUDA libraries that only some builds of torch bring along. A
build tag such as `+cpu` is dropped, so that the same file serves every machine.
"""

from importlib.metadata import distributions
from pathlib import Path

HEADER = "# The versions this course was last tested with, together. Written by `make pins`.\n"
SKIPPED = ("mistral-edu", "pip", "triton", "flash-attn")
SKIPPED_PREFIXES = ("nvidia-", "cuda-")


def pins(installed: dict[str, str]) -> list[str]:
    """Sorted `name==version` lines, without what depends on the machine."""
    kept = {
        name.lower().replace("_", "-"): version.split("+")[0] for name, version in installed.items()
    }
    return [
        f"{name}=={kept[name]}"
        for name in sorted(kept)
        if name not in SKIPPED and not name.startswith(SKIPPED_PREFIXES)
    ]


def main() -> None:
    installed = {found.metadata["Name"]: found.version for found in distributions()}
    lines = pins(installed)
    target = Path(__file__).resolve().parent.parent / "constraints.txt"
    target.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} versions pinned in {target.name}")


if __name__ == "__main__":
    main()
