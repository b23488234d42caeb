"""A checkpoint as one of several processes reads it: of each matrix only its own rows or columns.

    part r of n = rows (or columns) r·⌈size / n⌉ up to the next part

Lesson: 16_beyond_one_machine.

Conventions
    The model's parameters say how they are cut: they are DTensors on the meta device.
    Safetensors are mapped and only the part is copied, so memory holds the part. Columns lie in
    pieces: the system may fetch the bytes between them too, and forgets them when it must.
    W_q and W_k of a folder in Mistral's own layout are reordered whole, one at a time, then cut.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from mistral_edu.weights.name_matching import matched_names

if TYPE_CHECKING:
    from mistral_edu.weights.sources import TensorSource


def own_part(whole: Tensor, axis: int, rank: int, ranks: int) -> Tensor:
    """A rank's part of a matrix: equal parts along `axis`, only the last ones may be smaller.

    A view: of a tensor that is mapped from a file, the other parts are not looked at.

    >>> [own_part(torch.arange(5), 0, rank, ranks=3).tolist() for rank in range(3)]
    [[0, 1], [2, 3], [4]]
    """
    length = whole.shape[axis]
    size = -(-length // ranks)
    start = min(rank * size, length)
    return whole.narrow(axis, start, min(size, length - start))


class ShardSource:
    """The tensors of `source` by whole names and shapes; reading one gives this rank's part.

    Args:
        source: the checkpoint, with Hugging Face's names.
        own: the model's tensors by name, those that are cut as DTensors.
        device: where the parts go.

    >>> from mistral_edu.paths import data_dir
    >>> from mistral_edu.weights.sources import open_safetensors
    >>> whole = {"model.norm.weight": torch.empty(256, device="meta")}
    >>> shards = ShardSource(open_safetensors(data_dir() / "tiny"), whole, "cpu")
    >>> shards.read("model.norm.weight").shape  # not cut
    torch.Size([128])
    """

    def __init__(
        self, source: "TensorSource", own: Mapping[str, Tensor], device: torch.device | str
    ) -> None:
        self._source, self._device = source, device
        names = matched_names(own, source.names())
        self._like = {its: own[ours] for ours, its in names.items() if ours in own}

    def __str__(self) -> str:
        return str(self._source)

    def names(self) -> list[str]:
        """Every tensor's name."""
        return self._source.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """The whole tensor's shape."""
        return self._source.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's type in the file."""
        return self._source.dtype(name)

    def read(self, name: str) -> Tensor:
        """This rank's part, as a DTensor of the whole shape; norms as they are."""
        whole, like = self._source.read(name), self._like[name]
        if not isinstance(like, DTensor):
            return whole
        mesh, (placement,) = like.device_mesh, like.placements
        assert isinstance(placement, Shard)
        part = own_part(whole, placement.dim, mesh.get_local_rank(), mesh.size())
        # A copy, so that the mapping of the whole tensor goes, and its pages with it.
        part = part.clone(memory_format=torch.contiguous_format).to(self._device)
        return DTensor.from_local(
            part, mesh, [placement], run_check=False, shape=like.shape, stride=like.stride()
        )
