"""SwiGLU feed-forward: one projection decides how much of another passes.

    y = W_down (silu(W_gate x) ⊙ W_up x),   silu(z) = z · sigmoid(z)

Source: Shazeer, "GLU Variants Improve Transformer" (arXiv 2002.05202), section 2.
Lesson: 02_norm_and_feed_forward.

Conventions
    No biases. Three matrices instead of two, so Mistral's width of 14336 = 3.5 · 4096 costs as
    much as a two-matrix block of width 21504.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mistral_edu.config import MistralConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
}


def activation(chosen: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The activation function that `hidden_act` names, or `hidden_act` itself if it is a function.

    Raises:
        ValueError: for a name that is not in the table.

    >>> import torch
    >>> activation("silu")(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7311])
    """
    if not isinstance(chosen, str):
        return chosen
    if chosen not in ACTIVATIONS:
        raise ValueError(f"hidden_act={chosen!r} is unknown: choose one of {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[chosen]


class FeedForward(nn.Module):
    """The feed-forward block of one layer: hidden → intermediate → hidden.

    >>> import torch
    >>> config = MistralConfig(hidden_size=8, intermediate_size=28, num_attention_heads=2,
    ...                        num_key_value_heads=1)
    >>> FeedForward(config)(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, config: MistralConfig) -> None:
        super().__init__()
        hidden, intermediate = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)
        self.activation = activation(config.hidden_act)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
