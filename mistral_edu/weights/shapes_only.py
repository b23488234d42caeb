"""Build a model of shapes without numbers, to be given its weights afterwards.

The meta device holds no numbers, yet asking it to draw random ones makes torch load its compiler:
a second or two and 80 MB, for nothing. So the drawing is skipped too.

Lesson: 11_weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _WithoutDrawing(TorchFunctionMode):
    """Lets every function of `torch.nn.init` return its tensor as it is."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within the block, new modules hold shapes and types but no numbers.

    >>> with shapes_only():
    ...     layer = torch.nn.Linear(10**6, 10**6)
    >>> layer.weight.device.type, layer.weight.numel()
    ('meta', 1000000000000)
    """
    with torch.device("meta"), _WithoutDrawing():
        yield
