"""Types of command line arguments: each takes the word typed and refuses it in one clear line."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.tokenizer import MistralTokenizer


def count(text: str) -> int:
    """A whole number of at least 1.

    >>> count("120")
    120
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def temperature(text: str) -> float:
    """A number from 0 up.

    >>> temperature("0.8")
    0.8
    """
    return _number(text, 0.0, float("inf"), "is not a number from 0 up")


def probability(text: str) -> float:
    """A probability, above 0.

    >>> probability("0.95")
    0.95
    """
    return _number(text, 1e-9, 1.0, "is not a probability above 0 and up to 1")


def minutes(text: str) -> float:
    """A time in minutes, above 0.

    >>> minutes("2.5")
    2.5
    """
    return _number(text, 1e-9, float("1e9"), "is not a number of minutes above 0")


def penalty(text: str) -> float:
    """A factor, above 0.

    >>> penalty("1.3")
    1.3
    """
    return _number(text, 1e-9, float("1e9"), "is not a number above 0")


def wording(text: str) -> str:
    """A text that is not empty.

    >>> wording("The end")
    'The end'
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty, expected at least one character")
    return text


def port(text: str) -> int:
    """The number of a port.

    >>> port("8888")
    8888
    """
    return _whole(text, 1, 65535)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """The number that random draws begin with."""
    parser.add_argument(
        "--seed",
        type=lambda text: _whole(text, 0, 10**18),
        default=0,
        help="same seed, same text (%(default)s)",
    )


def writable(folder: Path) -> Path:
    """The folder that `--output` names, made if absent and found to take a file.

    Raises:
        OSError: if it takes none; better said before hours of work than after them.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     writable(Path(folder) / "a" / "b").is_dir()
    True
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise OSError(f"cannot write to {folder} ({reason}): choose another --output") from error


def add_placement(parser: argparse.ArgumentParser) -> None:
    """Where a model's weights go, and in what form."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(a GPU if there is one)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the weights (bfloat16 on a GPU, float32 on a CPU)",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=(8, 4),
        help="keep the weights in 8 bits, or in 4 as an experiment: less memory, less exact",
    )


def require_device(device: str | None) -> None:
    """Refuse a `--device` that PyTorch cannot use here; None is none given.

    Raises:
        ValueError: for such a device.

    >>> require_device("cpu")
    """
    from mistral_edu.devices import why_absent

    if device and (reason := why_absent(device)):
        raise ValueError(f"--device {device}: {reason}; leave --device out")


def load_placed(options: argparse.Namespace) -> "tuple[MistralForCausalLM, MistralTokenizer]":
    """The model that `--model` names, as `add_placement`'s options say.

    Raises:
        ValueError: for a device that PyTorch does not find; and as `load`.
    """
    import torch

    from mistral_edu import load

    found = "cuda" if torch.cuda.is_available() else "cpu"
    require_device(options.device)
    device = options.device or found
    dtype = options.dtype or ("bfloat16" if device == "cuda" else "float32")
    return load(options.model, dtype=getattr(torch, dtype), device=device, bits=options.bits)


def _whole(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from {least:,} to {most:,}"
        )
    return int(text)


def _number(text: str, least: float, most: float, complaint: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} {complaint}")
    return value
