"""The models that are measured, by name, and their weights on disk.

    tiny       data/tiny, trained           small229   random, 229 million parameters
    7b         random, the shape of Mistral-7B-v0.1

Speed does not depend on what the weights are, so the larger two are drawn at random.

Lesson: 14_the_full_7b.

Conventions
    The tiny model fits into a processor's caches, so it may well pass the limit of reading from
    memory. It is there to see that all works; the others are there to be measured.
    Tensor n is drawn from seed n in float32 and then cast: both types hold the same model.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mistral_edu.config import MistralConfig
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.paths import data_dir
from mistral_edu.weights.model_weights import planned
from mistral_edu.weights.saving import write_sharded
from mistral_edu.weights.shapes_only import shapes_only

WITHOUT_WINDOW = 512  # what stands for W in the lengths to measure, for a model that has none


def _tiny() -> MistralConfig:
    return MistralConfig.from_pretrained(data_dir() / "tiny")


def _small229() -> MistralConfig:
    return MistralConfig(
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=3584,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=4,
        sliding_window=512,
        max_position_embeddings=65536,
        rms_norm_eps=1e-5,
    )


def _seven_b() -> MistralConfig:
    return MistralConfig.mistral_7b_v0_1().changed(max_position_embeddings=524288)


SIZES: dict[str, Callable[[], MistralConfig]] = {
    "tiny": _tiny,
    "small229": _small229,
    "7b": _seven_b,
}
TRAINED = ("tiny",)


def config_of(name: str) -> MistralConfig:
    """The config of a size, with room for the longest text that is measured.

    Raises:
        ValueError: for another name.

    >>> config = config_of("small229")
    >>> with shapes_only():
    ...     MistralForCausalLM(config).num_parameters()
    229139456
    """
    if name not in SIZES:
        raise ValueError(f"model={name!r} is no size: choose one of {', '.join(SIZES)}")
    return SIZES[name]()


def window_of(config: MistralConfig) -> int:
    """W, or what stands for it in a model without a window.

    >>> window_of(config_of("7b")), window_of(config_of("7b").changed(sliding_window=None))
    (4096, 512)
    """
    return config.sliding_window or WITHOUT_WINDOW


def write_weights(name: str, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
    """Write config and weights of a size into a folder, one tensor in memory at a time.

    Args:
        name: of the size.
        folder: made if absent.
        dtype: of the weights.
        device: where to draw them.
    """
    config = config_of(name)
    if name in TRAINED:
        model = MistralForCausalLM.from_pretrained(data_dir() / name)
        model.save_pretrained(folder, dtype=dtype)
        return
    with shapes_only():
        names = planned(MistralForCausalLM(config), dtype)
    random = [
        (tensor, dtype, shape, _drawn(seed, shape, dtype, config.initializer_range, device))
        for seed, (tensor, _, shape, _) in enumerate(names)
    ]
    write_sharded(folder, random)
    config.save_pretrained(folder)


def _drawn(
    seed: int, shape: tuple[int, ...], dtype: torch.dtype, spread: float, device: torch.device
) -> Callable[[], Tensor]:
    def make() -> Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=dtype)
        generator = torch.Generator(device).manual_seed(seed)
        drawn = torch.randn(shape, generator=generator, device=device)
        return drawn.mul_(spread).to("cpu", dtype)

    return make


def random_ids(config: MistralConfig, rows: int, length: int, seed: int = 0) -> Tensor:
    """The ids that every peer is given, (rows, length), without the special ids 0, 1 and 2.

    >>> random_ids(config_of("tiny"), 2, 3).shape
    torch.Size([2, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, config.vocab_size, (rows, length), generator=generator)
