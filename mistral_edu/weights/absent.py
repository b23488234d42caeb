"""What lies where a model was looked for and cannot be read, and what to give instead.

Lesson: 11_weights.
"""

from pathlib import Path

GGUF_IS_NOT_READ = "GGUF is written here and not read: give the folder that it was made from"
BIN_IS_NOT_READ = (
    "can run a program when it is read, so it is not read here: load it with transformers and "
    "save_pretrained it again, which writes model.safetensors"
)


def why_unreadable(path: Path) -> str:
    """One sentence about a path that holds no weights that can be read.

    Args:
        path: of anything, or of nothing.

    >>> why_unreadable(Path("tiny.gguf"))
    'tiny.gguf does not exist: give a folder that holds a model'
    """
    if not path.exists():
        return f"{path} does not exist: give a folder that holds a model"
    if not path.is_dir():
        is_gguf = path.suffix == ".gguf"
        return f"{path} is a file: {GGUF_IS_NOT_READ if is_gguf else 'give the folder it is in'}"
    for path_in in sorted(path.glob("pytorch_model*.bin")):
        return f"{path} holds {path_in.name}, which {BIN_IS_NOT_READ}"
    for path_in in sorted(path.glob("*.gguf")):
        return f"{path} holds {path_in.name} and no other weights: {GGUF_IS_NOT_READ}"
    return (
        f"{path} holds no weights (model.safetensors, consolidated.safetensors or "
        "consolidated.00.pth): give a folder that save_pretrained wrote, or one of Mistral's "
        "own files"
    )
