"""`mistral-edu verify`: hold a checkpoint against what is published about Mistral-7B-v0.1.

Lesson: 11_weights.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from mistral_edu.commands import arguments

if TYPE_CHECKING:
    from mistral_edu.weights.verify_structure import Line

HELP = "compare weights with the published figures of Mistral-7B-v0.1"
SIGNS = {"pass": "✓", "fail": "✗", "skipped": "–"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and how to run it."""
    parser.add_argument("path", help='a folder in either layout, or "owner/name" on the hub')
    parser.add_argument("--device", help="where to run (the GPU if there is one)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="type of the weights while they run (float16 on a GPU, else the file's)",
    )
    parser.add_argument(
        "--long", action="store_true", help="run prompts longer than the window without a GPU too"
    )


def run(options: argparse.Namespace) -> int:
    """Print each line as soon as it is known; 1 if any fails."""
    import torch

    from mistral_edu.weights import published
    from mistral_edu.weights.verify import exit_status, verify

    arguments.require_device(options.device)
    if hasattr(sys.stdout, "reconfigure"):  # A terminal that lacks a sign shows "?" for it.
        sys.stdout.reconfigure(errors="replace")
    dtype = getattr(torch, options.dtype) if options.dtype else None
    lines = []
    for line in verify(
        options.path,
        published=published.MISTRAL_7B_V0_1,
        dtype=dtype,
        device=options.device,
        long=options.long,
    ):
        print(text_of(line), flush=True)
        lines.append(line)
    counts = {status: sum(line.status == status for line in lines) for status in SIGNS}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return exit_status(lines)


def text_of(line: "Line") -> str:
    """A line of the report as it is printed.

    >>> from mistral_edu.weights.verify_structure import equal
    >>> text_of(equal("rms_norm_eps", 1e-5, 1e-6))
    '✗ fail     rms_norm_eps: expected 1e-05, found 1e-06'
    """
    text = f"{SIGNS[line.status]} {line.status:8} {line.name}: expected {line.expected}"
    if line.tolerance:
        text += f" ({line.tolerance})"
    if line.status != "skipped":
        text += f", found {line.found}"
    return text + (f" – {line.why}" if line.why else "")
