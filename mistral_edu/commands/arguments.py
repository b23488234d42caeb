"""Types of command line arguments: each takes the word typed and refuses it in one clear line."""

import argparse


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


def add_bits(parser: argparse.ArgumentParser) -> None:
    """The option that keeps a model's matrices in fewer bits."""
    parser.add_argument(
        "--bits",
        type=int,
        choices=(8, 4),
        help="keep the weights in 8 bits, or in 4 as an experiment: less memory, less exact",
    )


def _number(text: str, least: float, most: float, complaint: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} {complaint}")
    return value
