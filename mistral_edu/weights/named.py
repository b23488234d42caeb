"""Models by name: the course's own, a folder, or a repository on the hub.

Lesson: 00_map_and_toolbox.

Conventions
    A folder always wins over a repository of the same name.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mistral_edu.devices import require_device
from mistral_edu.paths import data_dir
from mistral_edu.weights import hub
from mistral_edu.weights.absent import why_unreadable

if TYPE_CHECKING:
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.tokenizer import MistralTokenizer


def local_folder(
    name: str | Path, *, revision: str | None = None, parts: Iterable[str] = hub.PARTS
) -> Path:
    """The folder that `name` means, fetched from the hub if it is there and not here.

    Args:
        name: one of the course's own models, the path of a folder, or "owner/name" on the hub.
        revision: on the hub, a branch, tag or commit; a folder has none.
        parts: what to fetch, of "config", "weights" and "tokenizer".

    Raises:
        FileNotFoundError: if it is none of the three; the message lists what there is.
        HubError: if the hub does not give it.

    >>> local_folder("tiny").name
    'tiny'
    """
    own = data_dir() / name
    if (own / "config.json").is_file():
        return own
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_file():
        raise FileNotFoundError(why_unreadable(Path(name)))
    if hub.REPOSITORY.fullmatch(str(name)):
        return hub.download(str(name), revision=revision, parts=parts)
    models = sorted(path.parent.name for path in data_dir().glob("*/config.json"))
    raise FileNotFoundError(
        f"{str(name)!r} is not a model of the course ({', '.join(models)}), nor a folder that "
        'exists, nor "owner/name" of a repository on the hub'
    )


def load(
    name: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    attention: str = "auto",
    revision: str | None = None,
    bits: int | None = None,
) -> "tuple[MistralForCausalLM, MistralTokenizer]":
    """A language model in evaluation mode, and its tokenizer.

    Args:
        name: "tiny"; or the path of a folder with config.json, model.safetensors (or shards) and
            tokenizer.model; or "owner/name" on the hub.
        dtype, device: of the weights.
        attention: a backend's name, or "auto".
        revision: on the hub, a branch, tag or commit.
        bits: keep the matrices of the layers in 8 bits, or in 4 as an experiment; None does not.

    Raises:
        FileNotFoundError, HubError: see `local_folder`.
        ValueError: if the files do not fit together; for other numbers of bits; for a device that
            PyTorch cannot use here.

    >>> model, tokenizer = load("tiny")
    >>> model.config.vocab_size == tokenizer.vocab_size
    True
    """
    from mistral_edu.heads import MistralForCausalLM
    from mistral_edu.quantized_model import load_quantized
    from mistral_edu.tokenizer import MistralTokenizer

    require_device(device)
    folder = local_folder(name, revision=revision)
    how: dict[str, Any] = {"dtype": dtype, "device": device, "attention": attention}
    if bits is None:
        model = MistralForCausalLM.from_pretrained(folder, **how)
    else:
        model = load_quantized(folder, bits=bits, **how)
    return model, MistralTokenizer.from_pretrained(folder)
