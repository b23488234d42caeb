"""Graph replay: what the GPU is to do in a step, recorded once and started as one thing.

A step is hundreds of small operations. Python and PyTorch need longer to start them than a GPU
needs to do them, unless they are started all at once.

Source: PyTorch's CUDA graphs (`torch.cuda.CUDAGraph`).
Lesson: 14_the_full_7b.

Conventions
    A recording repeats operations with their addresses, shapes and numbers. What changes from step
    to step must lie in a tensor at a fixed address, and nothing may be asked of the device.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

WARM_UPS = 3  # libraries choose their kernels and reserve memory in the first runs


def record(
    function: Callable[[], Tensor], device: torch.device
) -> tuple[Callable[[], None], Tensor]:
    """Record what `function` does on a GPU.

    Returns:
        What does it again, and the tensor in which the result is then found.

    Raises:
        ValueError: for another device.
    """
    if device.type != "cuda":
        raise ValueError(
            f"record=True needs a CUDA GPU, and the model is on {device.type}: leave record out"
        )
    with torch.cuda.device(device):
        here, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                function()
        here.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = function()
    return graph.replay, result


class RecordedStep:
    """A step of the engine, recorded: ids in, scores out.

    Recording runs the step a few times; what it left behind is for the caller to reset.

    Args:
        step: a function that does the same operations whenever it is called.
        ids: (B,) on the GPU; from now on the place where the step finds its ids.
    """

    def __init__(self, step: Callable[[Tensor], Tensor], ids: Int[Tensor, "B"]) -> None:
        self._ids = ids
        self._replay, self._scores = record(lambda: step(ids), ids.device)

    def __call__(self, ids: Int[Tensor, "B"]) -> Float[Tensor, "B V"]:
        self._ids.copy_(ids)
        self._replay()
        return self._scores.clone()  # the next step writes to the same place
