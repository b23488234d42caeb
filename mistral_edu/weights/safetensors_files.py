"""Read and write `model.safetensors`: the whole model, checked by name and shape first.

Lesson: 11_weights.

Conventions
    Loading maps the file into memory and assigns its tensors to a model built on the meta
    device, so no weight is initialised or copied in vain.
    Every difference between file and model is listed at once.
    Writing goes to a temporary name in the same folder, then renames.
"""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mistral_edu.pretrained import PretrainedModel

WEIGHTS_FILE = "model.safetensors"


class WeightsError(ValueError):
    """A weights file that is damaged or does not fit the model; the message lists every problem."""


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a folder that save_pretrained wrote")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged ({error}): copy or save it again") from error


def mismatches(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """Every way in which the tensors found differ from those expected, one line each.

    >>> mismatches({"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.zeros(3)})
    ['a: has shape (3,), expected (2,)', 'b: is missing']
    """
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            lines.append(f"{name}: is missing")
        elif name not in expected:
            lines.append(f"{name}: belongs to no parameter")
        elif expected[name].shape != found[name].shape:
            has, wants = tuple(found[name].shape), tuple(expected[name].shape)
            lines.append(f"{name}: has shape {has}, expected {wants}")
    return lines


def _own_tensors(model: PretrainedModel) -> dict[str, Tensor]:
    """The model's tensors, without an LM head that only shares the embedding matrix."""
    tensors = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors


def load_weights(
    model: PretrainedModel,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Give `model`, built on any device, the weights in `folder`.

    Args:
        model: a `PretrainedModel`.
        folder: holds model.safetensors.
        dtype, device: cast and move each tensor; None keeps the file's type.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if it is damaged, or names or shapes differ; the model is then unchanged.
    """
    path = Path(folder) / WEIGHTS_FILE
    found = _read(path)
    expected = _own_tensors(model)
    if model.config.tie_word_embeddings:
        found.pop("lm_head.weight", None)
    problems = mismatches(expected, found)
    if problems:
        raise WeightsError(f"{path} does not fit the model:\n  " + "\n  ".join(problems))
    moved = {name: tensor.to(device=device, dtype=dtype) for name, tensor in found.items()}
    model.load_state_dict(moved, strict=False, assign=True)
    model.tie_weights()


def save_weights(
    model: PretrainedModel, folder: str | Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write `model.safetensors` into `folder`, whole or not at all.

    >>> import tempfile
    >>> from mistral_edu import MistralConfig, MistralForCausalLM
    >>> config = MistralConfig(vocab_size=16, hidden_size=8, intermediate_size=28,
    ...     num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
    >>> model = MistralForCausalLM(config)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(folder)
    ...     again = MistralForCausalLM.from_pretrained(folder)
    >>> torch.equal(again.lm_head.weight, model.lm_head.weight)
    True
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to(dtype=dtype).contiguous().cpu()
        for name, tensor in _own_tensors(model).items()
    }
    unfinished = folder / f".{WEIGHTS_FILE}.{os.getpid()}"
    try:
        unfinished.touch()
        permissions = unfinished.stat().st_mode  # of any new file here; save_file would leave 0600
        save_file(tensors, unfinished, metadata={"format": "pt"})
        unfinished.chmod(permissions)
        unfinished.replace(folder / WEIGHTS_FILE)
    finally:
        unfinished.unlink(missing_ok=True)
