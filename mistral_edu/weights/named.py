"""`load`: a model and its tokenizer by name, in one call.

Lesson: 00_map_and_toolbox.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mistral_edu.paths import data_dir

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.tokenizer import MistralTokenizer


def folder_of(name: str | Path) -> Path:
    """The folder that `name` means: one of the course's own models, or a path.

    Raises:
        FileNotFoundError: if it is neither; the message lists what there is.

    >>> folder_of("tiny").name
    'tiny'
    """
    for folder in (data_dir() / name, Path(name)):
        if any((folder / name).is_file() for name in ("config.json", "params.json")):
            return folder
    own = sorted(path.parent.name for path in data_dir().glob("*/config.json"))
    raise FileNotFoundError(
        f"{str(name)!r} is not a model of the course ({', '.join(own)}), nor a folder that holds "
        "config.json, model.safetensors and tokenizer.model (or Mistral's own files)"
    )


def load(
    name: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    attention: str = "auto",
) -> "tuple[MistralForCausalLM, MistralTokenizer]":
    """A language model in evaluation mode, and its tokenizer.

    Args:
        name: "tiny", or the path of a folder with config.json, model.safetensors and
            tokenizer.model.
        dtype, device: of the weights.
        attention: a backend's name, or "auto".

    >>> model, tokenizer = load("tiny")
    >>> model.config.vocab_size == tokenizer.vocab_size
    True
    """
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.tokenizer import MistralTokenizer

    folder = folder_of(name)
    model = MistralForCausalLM.from_pretrained(
        folder, dtype=dtype, device=device, attention=attention
    )
    return model, MistralTokenizer.from_pretrained(folder)
