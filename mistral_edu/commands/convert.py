"""`mistral-edu convert`: write a model in the other layout, or as a GGUF file for llama.cpp.

Lesson: 11_weights.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mistral_edu.commands import arguments

if TYPE_CHECKING:
    import torch

HELP = "convert a model between Mistral's own layout and Hugging Face's, or to GGUF"
LEFT_BEHIND = ".unfinished.*"  # where `weights.whole_files` writes
TYPES = ("float32", "float16", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two folders, the layout, and what may change on the way."""
    parser.add_argument(
        "source", help='a folder in either layout, "tiny", or "owner/name" on the hub'
    )
    parser.add_argument("target", type=Path, help="the folder to write (or the .gguf file)")
    parser.add_argument("--to", required=True, choices=("hugging-face", "original", "gguf"))
    parser.add_argument("--dtype", choices=TYPES, help="cast the weights (as they are)")
    parser.add_argument(
        "--key-value-heads",
        type=arguments.count,
        metavar="N",
        help="pool the key/value heads to so many (as they are)",
    )
    parser.add_argument(
        "--pooling",
        choices=("mean", "first", "random"),
        default="mean",
        help="how to pool (%(default)s)",
    )
    parser.add_argument(
        "--pth",
        action="store_true",
        help="in the original layout, write consolidated.00.pth, as v0.1 was released",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the model that the target holds"
    )


def run(options: argparse.Namespace) -> int:
    """Convert, and list what the target now holds."""
    import torch

    from mistral_edu.weights.named import local_folder

    dtype = getattr(torch, options.dtype) if options.dtype else None
    source = local_folder(options.source)
    try:
        return (_to_gguf if options.to == "gguf" else _to_folder)(source, options, dtype)
    except FileExistsError as error:
        raise FileExistsError(str(error).replace("overwrite=True", "--overwrite")) from error


def _to_folder(source: Path, options: argparse.Namespace, dtype: "torch.dtype | None") -> int:
    from mistral_edu.weights.convert import TOKENIZER_FILE, convert

    names = ("key_value_heads", "pooling", "pth", "overwrite")
    changes = {name: getattr(options, name) for name in names}
    convert(source, options.target, options.to, dtype, **changes)
    print(f"{options.target} now holds:")
    for path in sorted(options.target.iterdir()):
        if path.is_file():
            print(f"  {path.name}  {path.stat().st_size:,} bytes")
    for path in options.target.glob(LEFT_BEHIND):
        print(f"An attempt that was killed left {path}: delete it if none is running.")
    if not (options.target / TOKENIZER_FILE).exists():
        print(f"The source has no {TOKENIZER_FILE}: put it there before you load the model.")
    return 0


def _to_gguf(source: Path, options: argparse.Namespace, dtype: "torch.dtype | None") -> int:
    from mistral_edu.weights.convert import TOKENIZER_FILE
    from mistral_edu.weights.gguf import export

    if options.key_value_heads is not None or options.pth:
        raise ValueError(
            "--key-value-heads and --pth do not go with --to gguf: write the hugging-face layout "
            "with them first, then convert that folder to gguf"
        )
    path = export(source, options.target, dtype, overwrite=options.overwrite)
    print(f"{path}  {path.stat().st_size:,} bytes")
    if not (source / TOKENIZER_FILE).is_file():
        print(
            f"The source has no {TOKENIZER_FILE}, so the file holds no tokens and takes ids only: "
            "put it there and convert again with --overwrite."
        )
    return 0
