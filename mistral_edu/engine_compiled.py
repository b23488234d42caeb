"""A decoding step through all layers in one call of compiled code.

    ids → embeddings → [every layer, in engine_kernel.cpp] → norm → head

What `Passes.step` starts in Python one operation after another is one function here. Here are only
the addresses it is given: of the weights, of the ring, and of room for what is made on the way.

Lesson: 14_the_full_7b.

Conventions
    The same mathematics as `FusedLayer`, read beside it in engine_kernel.cpp. Between two products
    all is float32; keys and values are rounded to their type as they are stored.
    Float32 or bfloat16 on a CPU, with SiLU, matrices in that type or all in 8 bits; what does not
    fit says why.
"""

import ctypes
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu.config import MistralConfig
from mistral_edu.engine_kernel import STEP_TYPES, library, name_of, step_name, why_uncompiled
from mistral_edu.engine_layer import FusedLayer
from mistral_edu.engine_ring import StaticRing


class Shape(ctypes.Structure):
    """As `Shape` in engine_kernel.cpp."""

    _fields_ = (
        *[(name, ctypes.c_long) for name in ("rows", "width", "heads", "shared", "head_dim")],
        *[(name, ctypes.c_long) for name in ("inner", "slots")],
        ("eps", ctypes.c_float),
    )


def why_no_step(
    layers: Sequence[FusedLayer], ring: StaticRing, config: MistralConfig
) -> str | None:
    """Why these layers cannot be stepped through by compiled code, or None."""
    keys = ring.keys[0]
    if reason := why_uncompiled(keys):
        return reason
    if keys.dtype not in STEP_TYPES or config.hidden_act != "silu":
        return f"a compiled step has no {name_of(keys.dtype)} with {config.hidden_act}"
    types = sorted(map(name_of, set.union(*(layer.types for layer in layers))))
    if len(types) > 1:
        return f"a compiled step takes matrices of one type, got {' and '.join(types)}"
    return None


class CompiledLayers:
    """All layers for one token of each row.

    Args:
        layers: whose weights to use; see `why_no_step`.
        ring: where keys and values go.
        config: gives the shapes.
    """

    def __init__(
        self, layers: Sequence[FusedLayer], ring: StaticRing, config: MistralConfig
    ) -> None:
        self._shape = Shape(
            len(ring.counts),
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.intermediate_size,
            ring.slots,
            config.rms_norm_eps,
        )
        self._count = len(layers)
        # Kept, for their addresses are; detached, so that they stay where they are if the model's
        # parameters are given other memory.
        self._tensors = [
            None if tensor is None else tensor.detach().contiguous()
            for index, layer in enumerate(layers)
            for tensor in (*layer.tensors, ring.keys[index], ring.values[index])
        ]
        self._addresses = _addresses(self._tensors)
        self._rooms = [
            torch.empty(size, dtype=torch.float32, device="cpu")
            for size in _room_sizes(self._shape)
        ]
        self._room = _addresses(self._rooms)
        (weights,) = layers[0].types
        self._step = getattr(library(), step_name(ring.keys[0].dtype, weights))

    def __call__(
        self,
        x: Float[Tensor, "B C"],
        turn: tuple[Float[Tensor, "B half"], Float[Tensor, "B half"]],
        slots: Int[Tensor, "B"],
        fill: Int[Tensor, "B"],
    ) -> Float[Tensor, "B C"]:
        """Pass one token of each row through the layers; its keys and values go into the ring.

        Args:
            x: embeddings; in float32 they are used up.
            turn: cosine and sine of the tokens' positions.
            slots: where each is stored.
            fill: how many slots each sees, its own included.
        """
        x = x.float().contiguous()
        given = (turn[0].contiguous(), turn[1].contiguous(), slots, fill)
        shape, token = ctypes.byref(self._shape), _addresses(given)
        self._step(self._addresses, self._count, shape, token, self._room, x.data_ptr())
        return x


def _addresses(tensors: Sequence[Tensor | None]) -> "ctypes.Array[ctypes.c_void_p]":
    found = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    return (ctypes.c_void_p * len(found))(*found)


def _room_sizes(shape: Shape) -> tuple[int, ...]:
    """Numbers in each room of `Scratch`, in its order."""
    queries = (shape.heads + 2 * shape.shared) * shape.head_dim
    return (
        shape.rows * shape.width,  # normed
        shape.rows * queries,
        shape.rows * shape.heads * shape.head_dim,  # attended
        shape.rows * 2 * shape.inner,  # hidden
        shape.rows * shape.inner,  # gated
        shape.rows * shape.width,  # added
        shape.rows * shape.heads * shape.slots,  # scores
    )
