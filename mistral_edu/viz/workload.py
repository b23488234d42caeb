"""What one pass of a model asks of a machine: bytes to read, operations to do.

    seconds  ≥  max(bytes / read,  operations / multiply)
    intensity = operations / bytes

Decoding reads every weight once for all rows of a batch, and each row's own keys and values. The
counts are those of `bench.costs`, with fewer bits for the weights where they are asked for.

Source: Williams, Waterman and Patterson, "Roofline" (2009): a pass is bound by one of the two.
Lesson: 14_the_full_7b. The picture is in `roofline.py`.

Conventions
    A multiplication and an addition are two operations. Of the embedding table one row is read,
    which counts as nothing.
    8 and 4 bits are those of `quantized_model`: the matrices of the layers only, with their steps.
    All else, keys and values too, then takes 2 bytes a number, and products run in bfloat16.
"""

from dataclasses import dataclass

import torch

from mistral_edu.bench import costs
from mistral_edu.config import MistralConfig
from mistral_edu.quantization_int4 import GROUP

PRECISIONS = ("float32", "bfloat16", "int8", "int4")
STEP_BYTES = 4  # of a row of 8-bit codes
GROUP_BYTES = 4  # step and zero of a group of 4-bit codes, two bytes each


@dataclass(frozen=True)
class Work:
    """One pass through the model.

    Args:
        name: what it does.
        tokens: that come out of it or go into it, over all rows.
        bytes: that it must read.
        operations: that it must do.

    >>> Work("a product", tokens=1, bytes=200, operations=100).intensity
    0.5
    """

    name: str
    tokens: int
    bytes: int
    operations: int

    @property
    def intensity(self) -> float:
        """Operations for each byte read."""
        return self.operations / self.bytes


def number_type(precision: str) -> torch.dtype:
    """The type of what is not quantized, and of the products.

    Raises:
        ValueError: for another precision than `PRECISIONS`.

    >>> number_type("int8")
    torch.bfloat16
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: choose one of {', '.join(PRECISIONS)}")
    return torch.float32 if precision == "float32" else torch.bfloat16


def matrix_rows(config: MistralConfig) -> tuple[int, int]:
    """Rows of all matrices in the decoder layers, and weights in them.

    >>> matrix_rows(MistralConfig.mistral_7b_v0_1())
    (1376256, 6979321856)
    """
    width, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    shared = config.num_key_value_heads * config.head_dim
    rows = queries + 2 * shared + width + 2 * inner + width
    weights = width * (2 * queries + 2 * shared + 3 * inner)
    return config.num_hidden_layers * rows, config.num_hidden_layers * weights


def weight_bytes(config: MistralConfig, precision: str) -> int:
    """Bytes of the weights that a pass reads: all but the embedding table.

    Args:
        config: of the model.
        precision: one of `PRECISIONS`.

    >>> config = MistralConfig.mistral_7b_v0_1()
    >>> [round(weight_bytes(config, precision) / 1e9, 2) for precision in PRECISIONS]
    [28.44, 14.22, 7.25, 4.62]
    """
    size = number_type(precision).itemsize
    rows, matrices = matrix_rows(config)
    rest = config.vocab_size * config.hidden_size  # the head
    rest += (2 * config.num_hidden_layers + 1) * config.hidden_size  # the norms
    if precision == "int8":
        return matrices + rows * STEP_BYTES + rest * size
    if precision == "int4":
        return matrices // 2 + matrices // GROUP * GROUP_BYTES + rest * size
    return (matrices + rest) * size


def decoding(config: MistralConfig, precision: str, batch: int, context: int) -> Work:
    """One new token for each row of a batch.

    Args:
        config: of the model.
        precision: one of `PRECISIONS`.
        batch: rows.
        context: tokens that each row has seen; the window limits what it reads of them.

    >>> decoding(MistralConfig.mistral_7b_v0_1(), "bfloat16", 1, 4096).bytes
    14758191104
    """
    held = costs.cache_bytes(config, context, number_type(precision))
    kept = min(context, config.sliding_window or context)
    rows_and_norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    products = matrix_rows(config)[1] + rows_and_norms + config.vocab_size * config.hidden_size
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * kept
    return Work(
        f"decode, batch {batch}",
        batch,
        weight_bytes(config, precision) + batch * held,
        batch * (2 * products + attention),
    )


def prompt(config: MistralConfig, precision: str, tokens: int) -> Work:
    """Taking in one prompt, its last token scored.

    >>> round(prompt(MistralConfig.mistral_7b_v0_1(), "bfloat16", 512).intensity)
    505
    """
    held = costs.cache_bytes(config, tokens, number_type(precision))
    return Work(
        f"prompt of {tokens} tokens",
        tokens,
        weight_bytes(config, precision) + held,
        costs.prompt_operations(config, tokens),
    )
