"""Who writes the text of a command: the plain model, or an engine where that pays.

Lesson: 14_the_full_7b.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM

WORTH = 2 * 10**11  # bytes of weights read for a text, from which on an engine pays on a CPU


def add_choice(parser: argparse.ArgumentParser) -> None:
    """The option that chooses."""
    parser.add_argument(
        "--engine",
        action=argparse.BooleanOptionalAction,
        help="the same text, written by the engine or by the plain model (whichever is faster)",
    )


def engine_helps(model: "MistralForCausalLM", tokens: int) -> bool:
    """Whether an engine will save more time than it takes to make one.

    It is made in two to four seconds, and saves a third or more of the time that reading the
    weights takes. Fusing them may take their memory once more.
    """
    import psutil
    import torch

    from mistral_edu.quantized_model import weight_bytes

    if model.device.type == "cuda":
        return True
    size = weight_bytes(model)
    room = psutil.virtual_memory().available >= 2 * size
    return room and size * tokens >= WORTH and model.dtype != torch.float16


def writer_of(
    model: "MistralForCausalLM", tokens: int, options: argparse.Namespace, capacity: int
) -> Any:
    """The model, or an engine that continues one text; `stream` of both takes the same.

    Args:
        model: that was loaded.
        tokens: at least so many will be written, or read in a prompt.
        options: with `engine` and `bits`; where they leave the choice, it is said who writes.
        capacity: tokens of the longest text, for a model without a window.
    """
    from mistral_edu.engine import Engine

    wanted = options.engine
    if wanted is None and options.bits != 4:
        wanted = engine_helps(model, tokens)
        if wanted:
            print("mistral-edu: the engine writes (--no-engine: the plain model)", file=sys.stderr)
    return Engine(model, capacity=capacity) if wanted else model
