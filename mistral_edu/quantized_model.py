"""A model with its matrices in 8 or 4 bits: made from one in memory, or read so from a file.

    for each matrix:   read → round → let go of what was read

Source: the layers are `quantization.Int8Linear` and `quantization_int4.Int4Linear`.
Lesson: 14_the_full_7b.

Conventions
    Only the matrices of the decoder layers: they are most of the model. Embeddings and norms stay;
    the head may follow.
    8 bits are for use, 4 bits an experiment: `mistral-edu experiment quantization` says their cost.
    Why not torchao: its 8-bit layer is the one of `quantization` under another name, and of its
    4-bit ones (0.18) those for GPUs need CUDA or a further package, while the one for any device
    keeps each 4-bit code in a byte. PyTorch's own operators, which it calls, need nothing more.
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mistral_edu.devices import require_device
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.pretrained import PretrainedModel
from mistral_edu.quantization import Int8Linear, quantize_linear, quantize_weight
from mistral_edu.quantization_int4 import GROUP, Int4Linear, quantize_linear_int4
from mistral_edu.weights.model_folder import open_model
from mistral_edu.weights.model_weights import load_weights, own_tensors, require_plausible
from mistral_edu.weights.name_matching import matched_names
from mistral_edu.weights.named import local_folder
from mistral_edu.weights.shapes_only import shapes_only

HEAD = "lm_head"
Model = TypeVar("Model", bound=PretrainedModel)
BITS = (8, 4)


def require_bits(bits: int) -> None:
    """Refuse other numbers of bits than there are.

    Raises:
        ValueError: for any but 8 and 4.

    >>> require_bits(8)
    """
    if bits not in BITS:
        raise ValueError(f"bits={bits}: a weight is kept in 8 bits, or in 4 as an experiment")


def linear_names(model: PretrainedModel, head: bool = False) -> list[str]:
    """The linear layers that are quantized: those of the decoder layers, and the head if wanted.

    Raises:
        ValueError: if the head is wanted of a model that has none, or ties it to the embeddings.
    """
    named = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    names = [name for name, _ in named if ".layers." in f".{name}"]
    if head and (HEAD not in dict(named) or model.config.tie_word_embeddings):
        raise ValueError(
            f"head=True, but {type(model).__name__} has no head of its own (tie_word_embeddings="
            f"{model.config.tie_word_embeddings}): leave it out"
        )
    return [*names, HEAD] if head else names


def quantize_model(model: Model, *, bits: int = 8, group: int = GROUP, head: bool = False) -> Model:
    """Quantize the decoder layers of a model, in place and one matrix at a time; returns it.

    Prune heads before, if at all. What is quantized has no gradient; what goes through 8 bits has.

    Args:
        model: with weights of any floating-point type.
        bits: 8 or 4.
        group: of 4-bit weights; see `Int4Linear`.
        head: whether to quantize the LM head too.

    Raises:
        ValueError: see `linear_names`, `quantize_weight` and `Int4Linear`.

    >>> from mistral_edu import load
    >>> model, _ = load("tiny")
    >>> before = weight_bytes(model)
    >>> 0.25 < weight_bytes(quantize_model(model)) / before < 0.4
    True
    """
    require_bits(bits)
    for name in linear_names(model, head):
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        small = quantize_linear(linear) if bits == 8 else quantize_linear_int4(linear, group)
        model.set_submodule(name, small)
    return model


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights, codes and steps; what is shared counts once.

    >>> weight_bytes(quantize_linear(nn.Linear(4, 3, bias=False)))  # 12 codes, 3 steps of 4 bytes
    24
    """
    held = (*model.parameters(), *model.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def load_quantized(
    name: str | Path,
    *,
    bits: int = 8,
    group: int = GROUP,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    attention: str = "auto",
    revision: str | None = None,
    head: bool = False,
) -> MistralForCausalLM:
    """Load a language model and quantize each matrix as it is read, in evaluation mode.

    The model is built without numbers and given one tensor at a time, so that beside what is
    quantized already there is never more than one matrix in full, and its rounding in float32.
    What stays is read or reserved before the first matrix: memory that was let go of between
    things that stay comes in pieces too small for the next one, and the process would grow.

    Args:
        name, device, attention, revision: as in `MistralForCausalLM.from_pretrained`.
        bits, group, head: as in `quantize_model`.
        dtype: of embeddings, norms and activations; None keeps the file's.

    Raises:
        FileNotFoundError, HubError, ValueError: as `from_pretrained`, and as `quantize_model`.

    >>> model = load_quantized("tiny", dtype=torch.float32)
    >>> model.model.layers[0].mlp.up_proj
    Int8Linear(in_features=128, out_features=320)
    """
    require_bits(bits)
    require_device(device)
    folder = local_folder(name, revision=revision, parts=["config", "weights"])
    config, source = open_model(folder)
    require_plausible(config, source)
    with shapes_only():
        model = MistralForCausalLM(config, attention)
    load_weights(model, source, dtype=dtype, device="meta")  # every check, and nothing read
    matched = matched_names(own_tensors(model), source.names())
    stored = {ours.removesuffix(".weight"): its for ours, its in matched.items()}
    chosen = linear_names(model, head)
    for name in stored.keys() - chosen:
        owner: Any = model.get_submodule(name)
        owner.weight = nn.Parameter(source.read(stored[name]).to(device, dtype))
    for name in chosen:
        model.set_submodule(name, _reserved(model.get_submodule(name), bits, group, device))
    for name in chosen:
        tensor = source.read(stored[name]).to(device)
        small = _small(tensor, bits, group, dtype or tensor.dtype)
        _copy_buffers(small, model.get_submodule(name))
        del tensor, small  # before the next one is read
    if not head:  # a head of its own is not tied
        model.tie_weights()
    return model.eval()


def _copy_buffers(source: nn.Module, target: nn.Module) -> None:
    for its, ours in zip(source.buffers(), target.buffers(), strict=True):
        ours.copy_(its)


def _reserved(linear: Any, bits: int, group: int, device: torch.device | str) -> nn.Module:
    """The layer that will take the place of one on the meta device, its numbers not yet written."""
    outs, ins = linear.weight.shape
    if bits == 8:
        codes = torch.empty(outs, ins, dtype=torch.int8, device=device)
        return Int8Linear(codes, torch.empty(outs, device=device))
    packed = torch.empty(outs, ins // 2, dtype=torch.uint8, device=device)
    both = torch.empty(ins // group, outs, 2, dtype=linear.weight.dtype, device=device)
    return Int4Linear(packed, both, group)


def _small(weight: Tensor, bits: int, group: int, dtype: torch.dtype) -> nn.Module:
    if bits == 8:
        return Int8Linear(*quantize_weight(weight))
    return Int4Linear.of(weight.to(dtype), group)
