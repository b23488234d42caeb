"""Parameters by component: the whole model's size as eight products of its config's numbers.

    total = embedding + L · (q + k + v + o + mlp + two norms) + last norm + head

Lesson: 00_map_and_toolbox.

Conventions
    Mistral has no biases, so a matrix from m to n features has m · n parameters and a norm has
    one gain per feature. A head tied to the embedding adds nothing.
"""

from dataclasses import dataclass
from math import prod

from mistral_edu.config import MistralConfig


@dataclass(frozen=True)
class Component:
    """One part of the parameter budget.

    Args:
        name: as in the figure.
        factors: (what, how many) pairs whose product is the number of parameters.
    """

    name: str
    factors: tuple[tuple[str, int], ...]

    @property
    def parameters(self) -> int:
        """The product of the factors."""
        return prod(number for _, number in self.factors)

    @property
    def product(self) -> tuple[str, str]:
        """The product in words, and in numbers and multiplied out.

        >>> Component("head", (("vocabulary", 32000), ("hidden", 4096))).product
        ('vocabulary × hidden', '32,000 × 4,096 = 131,072,000')
        """
        words = " × ".join(what for what, _ in self.factors)
        numbers = " × ".join(f"{number:,}" for _, number in self.factors)
        return words, f"{numbers} = {self.parameters:,}" if len(self.factors) > 1 else numbers


def components(config: MistralConfig) -> tuple[Component, ...]:
    """The parameter budget of a model, part by part, from its config alone.

    >>> sum(part.parameters for part in components(MistralConfig.mistral_7b_v0_1()))
    7241732096
    """
    layers, hidden = ("layers", config.num_hidden_layers), ("hidden", config.hidden_size)
    vocabulary = ("vocabulary", config.vocab_size)
    queries = ("query heads × head dim", config.num_attention_heads * config.head_dim)
    shared = ("key/value heads × head dim", config.num_key_value_heads * config.head_dim)
    matrices = ("(gate, up, down)", 3)
    gains = ("(2 × layers + 1)", 2 * config.num_hidden_layers + 1)
    tied = ("shared with the embedding", 0)
    return (
        Component("embedding", (vocabulary, hidden)),
        Component("attention q", (layers, hidden, queries)),
        Component("attention k", (layers, hidden, shared)),
        Component("attention v", (layers, hidden, shared)),
        Component("attention o", (layers, queries, hidden)),
        Component("mlp", (layers, matrices, hidden, ("intermediate", config.intermediate_size))),
        Component("norms", (gains, hidden)),
        Component("head", (tied,) if config.tie_word_embeddings else (vocabulary, hidden)),
    )
