"""What a forward pass accepts: every argument checked and brought to one form.

Source: the model documentation's arguments of `forward`.
Lesson: 09_the_full_model.

Conventions
    A wrong argument is a ValueError that names what was given and what was expected. Shapes are
    checked here, at run time and always, because here they come from outside.
    An attention mask with two axes says which tokens are padding; with four, see `custom_mask.py`.
    All the model needs to know about padding is one array of positions, −1 where there is none.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def batch_and_tokens(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int]:
    """B and T of whichever of the two is given.

    >>> batch_and_tokens(torch.tensor([[1, 5, 2]]), None)
    (1, 3)
    """
    if input_ids is not None and inputs_embeds is None:
        name, given, axes = "input_ids", input_ids, 2
    elif inputs_embeds is not None and input_ids is None:
        name, given, axes = "inputs_embeds", inputs_embeds, 3
    else:
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    if given.dim() != axes or given.numel() == 0:
        wanted = "(batch, tokens, hidden_size)" if axes == 3 else "(batch, tokens)"
        raise ValueError(
            f"{name} has shape {tuple(given.shape)}, expected {wanted} with at least one row and "
            f"token: add a batch axis with {name}[None], start a text with the bos id"
        )
    return given.shape[0], given.shape[1]


def embed(
    table: nn.Embedding, input_ids: Tensor | None, inputs_embeds: Tensor | None
) -> Float[Tensor, "B T C"]:
    """Look up the embeddings of the ids, or check the embeddings given instead.

    >>> embed(nn.Embedding(8, 4), torch.tensor([[1, 5, 2]]), None).shape
    torch.Size([1, 3, 4])
    """
    batch_and_tokens(input_ids, inputs_embeds)
    if input_ids is not None:
        _require_ids(input_ids, table)
        return table(input_ids.long())
    assert inputs_embeds is not None
    _require_embeddings(inputs_embeds, table.weight)
    return inputs_embeds


def _require_ids(ids: Tensor, table: nn.Embedding) -> None:
    _require_integers("input_ids", ids)
    _require_device("input_ids", ids, table.weight)
    # Looked at here and not where it fails: on a GPU a wrong index kills the whole process.
    if not ids.is_meta and (ids.min() < 0 or ids.max() >= table.num_embeddings):
        raise ValueError(
            f"input_ids range from {int(ids.min())} to {int(ids.max())}, expected "
            f"0 to {table.num_embeddings - 1} (vocab_size={table.num_embeddings}): encode "
            "the text with this model's own tokenizer"
        )


def _require_embeddings(embeddings: Tensor, weight: Tensor) -> None:
    if embeddings.shape[2] != weight.shape[1]:
        raise ValueError(
            f"inputs_embeds has {embeddings.shape[2]} channels but hidden_size={weight.shape[1]}: "
            "take embeddings of this model's width"
        )
    _require_device("inputs_embeds", embeddings, weight)
    if embeddings.dtype != weight.dtype and not torch.is_autocast_enabled(weight.device.type):
        raise ValueError(
            f"inputs_embeds has dtype {embeddings.dtype} but the model {weight.dtype}: "
            f"call .to({weight.dtype})"
        )


def _require_integers(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"{name} has dtype {tensor.dtype}, expected whole numbers: call .long()")


def _require_device(name: str, tensor: Tensor, weight: Tensor) -> None:
    if tensor.device != weight.device:
        raise ValueError(
            f"{name} is on {tensor.device} but the model on {weight.device}: move one with .to(…)"
        )


def real_tokens(
    attention_mask: Tensor | None, batch: int, tokens: int, so_far: bool
) -> Bool[Tensor, "B T"]:
    """Which tokens of the chunk are not padding.

    Args:
        attention_mask: (B, T), or with a cache (B, tokens so far + T): 1 for tokens, 0 for
            padding. Only the last T columns speak of the chunk. None, or four axes: no padding.
        batch, tokens: B and T.
        so_far: whether there is a cache, so that the mask may be wider than the chunk.

    >>> real_tokens(torch.tensor([[1, 1, 0, 1]]), batch=1, tokens=2, so_far=True)
    tensor([[False,  True]])
    """
    if attention_mask is None or attention_mask.dim() == 4:
        return torch.ones(batch, tokens, dtype=torch.bool)
    shape = tuple(attention_mask.shape)
    wide = so_far and len(shape) == 2 and shape[0] == batch and shape[1] > tokens
    if shape != (batch, tokens) and not wide:
        longer = f" or ({batch}, tokens so far + {tokens})" if so_far else ""
        raise ValueError(f"attention_mask has shape {shape}, expected ({batch}, {tokens}){longer}")
    odd = (attention_mask != 0) & (attention_mask != 1)
    if odd.any():
        raise ValueError(
            f"attention_mask holds {attention_mask[odd][0].item()}, expected 1 for tokens and 0 "
            "for padding; what is to be added to scores needs four axes"
        )
    return attention_mask[:, shape[1] - tokens :].bool()


def require_count(attention_mask: Tensor, tokens: int, seen: Int[Tensor, "B"]) -> None:
    """Refuse a mask over all tokens so far that counts others than the cache has seen.

    >>> require_count(torch.tensor([[0, 1, 1, 1]]), tokens=1, seen=torch.tensor([2]))
    """
    before = attention_mask[:, : attention_mask.shape[1] - tokens].long().sum(dim=1)
    if attention_mask.shape[1] > tokens and (before.to(seen.device) != seen).any():
        raise ValueError(
            f"attention_mask counts {before.tolist()} tokens so far but past_key_values has seen "
            f"{seen.tolist()}: pass the mask of the texts that are in the cache"
        )


def token_positions(
    real: Bool[Tensor, "B T"],
    position_ids: Tensor | None = None,
    seen: Int[Tensor, "B"] | None = None,
) -> Int[Tensor, "B T"]:
    """The absolute position of every token of a chunk, −1 for padding.

    Args:
        real: which tokens are not padding.
        position_ids: (B or 1, T) explicit positions, −1 for padding; counted from `seen` if None.
        seen: tokens that each row has put into the cache so far.

    >>> token_positions(torch.tensor([[False, True, True], [True, True, True]]))
    tensor([[-1,  0,  1],
            [ 0,  1,  2]])
    >>> token_positions(torch.ones(1, 2, dtype=torch.bool), seen=torch.tensor([7]))
    tensor([[7, 8]])
    """
    if position_ids is None:
        counted = real.long().cumsum(dim=1) - 1
        start = 0 if seen is None else seen[:, None]
        return (counted + start).masked_fill(~real, -1)
    shape = tuple(position_ids.shape)
    if shape not in (tuple(real.shape), (1, real.shape[1])):
        raise ValueError(f"position_ids has shape {shape}, expected {tuple(real.shape)}")
    _require_integers("position_ids", position_ids)
    positions = position_ids.to(real.device).long().expand_as(real).masked_fill(~real, -1)
    if (positions < -1).any():
        raise ValueError(
            f"position_ids holds {int(positions.min())}, expected 0 or more, or −1 for padding"
        )
    return positions


def head_factors(
    head_mask: Tensor | None, layers: int, heads: int, like: Tensor
) -> list[Float[Tensor, "H"] | None]:
    """For each layer the factors of its heads' outputs, or None.

    Args:
        head_mask: (L, H), or (H,) for the same in every layer; 0 switches a head off.
        like: a tensor of the wanted dtype and device.

    >>> head_factors(torch.tensor([1, 0]), layers=1, heads=2, like=torch.zeros(1))
    [tensor([1., 0.])]
    """
    if head_mask is None:
        return [None] * layers
    shape = tuple(head_mask.shape)
    if shape not in ((heads,), (layers, heads)):
        raise ValueError(
            f"head_mask has shape {shape}, expected ({layers}, {heads}): layers by heads, or "
            f"({heads},) for all layers"
        )
    return list(head_mask.to(like).expand(layers, heads))
