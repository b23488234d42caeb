"""Sharding, the numbers: how the plan cuts each matrix, and what the ranks send for one token.

    sum over n ranks in a ring   =  2 · (n − 1) messages of ⌈size / n⌉ numbers from each rank
    gathering n parts in a ring  =      (n − 1) messages of ⌈size / n⌉ numbers from each rank

Source: Shoeybi et al., "Megatron-LM" (arXiv 1909.08053), section 3.
Lesson: 16_beyond_one_machine. `shards.py` describes the picture, `shards_figure.py` draws it.

Conventions
    Nothing here decides how a matrix is cut: `parallel.plan` does, `rank_config` refuses, and
    `rank_shards.own_part` cuts the model's own parameters, on the meta device.
    Axis 0 are rows of an (out, in) weight, axis 1 its columns.
    torch.distributed takes half a second to import and not every build of torch has it, so it is
    imported by what needs it, not by every lesson.
"""

from dataclasses import dataclass
from fnmatch import fnmatch

import torch
from torch import nn

from mistral_edu.config import MistralConfig
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.weights.shapes_only import shapes_only

EMBEDDING, HEAD = "embedding", "head"
_NAMES = {"embed_tokens": EMBEDDING, "lm_head": HEAD}


@dataclass(frozen=True)
class Cut:
    """One matrix of the model and the parts of it that the ranks hold.

    Args:
        name: short, as in the picture: "q", "gate", "embedding".
        shape: (out, in) of the whole matrix.
        axis: 0 by rows, 1 by columns, None whole on every rank.
        parts: numbers along the axis for each rank; empty when whole.
        times: how many such matrices the model has.
    """

    name: str
    shape: tuple[int, ...]
    axis: int | None
    parts: tuple[int, ...]
    times: int

    @property
    def how(self) -> str:
        """The axis in words."""
        return "whole" if self.axis is None else ("by rows", "by columns")[self.axis]

    def held(self, rank: int) -> int:
        """Numbers of all such matrices that a rank holds."""
        whole = self.times * torch.Size(self.shape).numel()
        return whole if self.axis is None else whole // self.shape[self.axis] * self.parts[rank]


def cut_axis(name: str, module: nn.Module) -> int | None:
    """Along which axis the plan cuts the weight of a module; None for whole.

    PyTorch counts columns of the matrix that multiplies from the right, and an embedding's table
    already is one.

    Args:
        name: of the module in the model: "model.layers.0.mlp.up_proj".
        module: the module.

    >>> cut_axis("model.layers.0.mlp.down_proj", nn.Linear(4, 2)), cut_axis("model.norm", nn.ReLU())
    (1, None)
    """
    from mistral_edu.parallel import ColwiseParallel, plan

    styles = [style for pattern, style in plan().items() if fnmatch(name, pattern)]
    if not styles:
        return None
    first = isinstance(styles[0], ColwiseParallel) != isinstance(module, nn.Embedding)
    return 0 if first else 1


def rank_share(config: MistralConfig, ranks: int) -> MistralConfig:
    """One rank's config, or the refusal, both from `parallel.rank_config`.

    >>> rank_share(MistralConfig.mistral_7b_v0_1(), ranks=4).num_key_value_heads
    2
    """
    from mistral_edu.parallel import rank_config

    return rank_config(config, ranks)


def cuts(config: MistralConfig, ranks: int) -> tuple[Cut, ...]:
    """Every matrix and norm of a model, cut by the library's own plan.

    Args:
        config: the model.
        ranks: n, processes that share it.

    Raises:
        ValueError: when the model cannot be shared by so many; see `parallel.rank_config`.

    >>> q = cuts(MistralConfig.mistral_7b_v0_1(), ranks=4)[1]
    >>> q.name, q.shape, q.how, q.parts
    ('q', (4096, 4096), 'by rows', (1024, 1024, 1024, 1024))
    """
    rank_share(config, ranks)
    with shapes_only():
        model = MistralForCausalLM(config.changed(num_hidden_layers=1))
    found = []
    for name, weight in model.named_parameters():  # a tied head is the embedding: counted once
        module = name.removesuffix(".weight")
        axis, last = cut_axis(module, model.get_submodule(module)), module.rpartition(".")[2]
        parts = () if axis is None else tuple(_lengths(weight, axis, ranks))
        times = config.num_hidden_layers if ".layers." in name else 1
        short = _NAMES.get(last, last.removesuffix("_proj"))
        found.append(Cut(short, tuple(weight.shape), axis, parts, times))
    return tuple(found)


def _lengths(weight: torch.Tensor, axis: int, ranks: int) -> list[int]:
    from mistral_edu.weights.rank_shards import own_part

    return [own_part(weight, axis, rank, ranks).shape[axis] for rank in range(ranks)]


def rank_bytes(config: MistralConfig, ranks: int, item: int = 2) -> tuple[int, ...]:
    """Bytes of weights that each rank holds.

    Args:
        config: the model.
        ranks: n.
        item: bytes per number.

    Raises:
        ValueError: see `cuts`.

    >>> rank_bytes(MistralConfig.mistral_7b_v0_1(), ranks=8)[0]
    1810898944
    """
    pieces = cuts(config, ranks)
    return tuple(item * sum(cut.held(rank) for cut in pieces) for rank in range(ranks))


def sum_bytes(ranks: int, numbers: int, item: int = 2) -> int:
    """Bytes that each rank sends while a ring of ranks adds up `numbers` numbers.

    The sum goes once round in parts, (n − 1) messages, and the finished parts go round once more.

    >>> sum_bytes(1, 4096), sum_bytes(2, 4096), sum_bytes(8, 4096)
    (0, 8192, 14336)
    """
    return 2 * gather_bytes(ranks, numbers, item)


def gather_bytes(ranks: int, numbers: int, item: int = 2) -> int:
    """Bytes that each rank sends while a ring of ranks collects `numbers` numbers.

    >>> gather_bytes(2, 32000), gather_bytes(8, 32000)
    (32000, 56000)
    """
    return (ranks - 1) * -(-numbers // ranks) * item


def token_bytes(config: MistralConfig, ranks: int, item: int = 2) -> int:
    """Bytes that each rank sends for one token: two sums a layer, the embedding's, the logits.

    >>> token_bytes(MistralConfig.mistral_7b_v0_1(), ranks=8)
    987840
    """
    sums = 2 * config.num_hidden_layers + 1
    return sums * sum_bytes(ranks, config.hidden_size, item) + gather_bytes(
        ranks, config.vocab_size, item
    )
