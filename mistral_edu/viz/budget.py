"""Budget, the data: where the parameters are, and what they and the cache cost in memory.

    weights = parameters · bytes per number
    cache   = 2 · L · B · min(context, W) · Hkv · D · bytes per number

Source: "Mistral 7B" (arXiv 2310.06825), table 1 and section 2.
Lesson: 00_map_and_toolbox. The drawing is in `budget_figure.py`.

Conventions
    GB is 10⁹ bytes. The cache is counted as `RollingCache` reserves it: min(context, W) slots.
    Activations and the allocator's own overhead are not counted.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from mistral_edu.config import MistralConfig
from mistral_edu.viz.frame import Frame, aligned, count, listed, readable, short
from mistral_edu.viz.parameters import Component, components

DTYPES = ("float32", "bfloat16", "float16")
EVERYTHING = "everything"


@dataclass(frozen=True)
class BudgetFrame(Frame):
    """One model's parameters and memory.

    Args:
        model: its name in the title.
        parts: the components.
        dtype: of weights and cache.
        batch, context: sequences at once, and tokens in each.
        window: W, or None.
        token_bytes: cache bytes for one token of one sequence, all layers.
        selected: the component whose formula is shown, or "everything".
    """

    topic: ClassVar[str] = "budget"
    model: str
    parts: tuple[Component, ...]
    dtype: str
    batch: int
    context: int
    window: int | None
    token_bytes: int
    selected: str

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(part.parameters for part in self.parts)

    @property
    def weight_bytes(self) -> int:
        """Memory for the weights."""
        return self.parameters * item_size(self.dtype)

    @property
    def slots(self) -> int:
        """Tokens per sequence that the rolling cache keeps: min(context, W)."""
        return self.context if self.window is None else min(self.context, self.window)

    @property
    def cache_bytes(self) -> int:
        """Memory for the rolling cache."""
        return self.batch * self.slots * self.token_bytes

    @property
    def unbounded_bytes(self) -> int:
        """What the cache would take if it kept the whole context."""
        return self.batch * self.context * self.token_bytes

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by what they are for, as drawn."""
        return {
            "weights": self.weight_bytes,
            "rolling cache": self.cache_bytes,
            "cache without window": self.unbounded_bytes,
        }

    @property
    def formula(self) -> tuple[str, str]:
        """How the selected component's number comes about, in words and in numbers."""
        chosen = [part for part in self.parts if part.name == self.selected]
        if not chosen:
            total = f"{self.parameters:,} parameters"
            return "everything: the sum of the bars on the left", f"= {total}"
        words, numbers = chosen[0].product
        share = chosen[0].parameters / self.parameters
        return f"{self.selected}: {words}", f"= {numbers} parameters ({share:.1%} of all)"

    @property
    def cache_formula(self) -> tuple[str, str]:
        """How the size of the rolling cache comes about, in words and in numbers."""
        kept = "context" if self.window is None else f"min(context, W = {self.window:,})"
        return (
            f"rolling cache: bytes per token × {kept} × batch",
            f"= {self.token_bytes:,} × {self.slots:,} × {self.batch} = {self.cache_bytes:,} bytes",
        )

    @property
    def title(self) -> str:
        largest = max(self.parts, key=lambda part: part.parameters)
        share = largest.parameters / self.parameters
        needed = readable(self.weight_bytes + self.cache_bytes)
        return (
            f"{self.model}: {self.parameters:,} parameters, {share:.0%} of them in the "
            f"{largest.name}; {needed} with its cache in {self.dtype}"
        )

    @property
    def summary(self) -> str:
        memory = listed(f"{name} {readable(size)}" for name, size in self.memory.items())
        parts = listed(f"{part.name} {short(part.parameters)}" for part in self.parts)
        return (
            f"Two groups of bars for {self.model}. Its {self.parameters:,} parameters: {parts}. "
            f"Its memory in {self.dtype} for {self.run}: {memory}. Chosen is "
            f"{' '.join(self.formula)}."
        )

    @property
    def run(self) -> str:
        """How much is written at once, in words."""
        return f"{count(self.batch, 'text')} of {count(self.context, 'token')}"

    def to_text(self) -> str:
        parts = [["parameters", "share", "component"]]
        for part in self.parts:
            share = f"{part.parameters / self.parameters:.2%}"
            parts.append([f"{part.parameters:,}", share, part.name])
        parts.append([f"{self.parameters:,}", "100.00%", "total"])
        sizes = [[f"{size:,}", "bytes", name] for name, size in self.memory.items()]
        run = f"{self.dtype}, {self.run}:"
        formulas = [*self.formula, *self.cache_formula]
        return "\n".join([self.title, *aligned(parts), run, *aligned(sizes), *formulas])


def item_size(dtype: str) -> int:
    """Bytes per number.

    >>> item_size("bfloat16")
    2
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not one of {DTYPES}")
    return getattr(torch, dtype).itemsize


def budget_frame(
    config: MistralConfig,
    model: str = "this model",
    dtype: str = "bfloat16",
    batch: int = 1,
    context: int = 8192,
    component: str = EVERYTHING,
) -> BudgetFrame:
    """Count a model's parameters and the memory of its weights and cache.

    Args:
        config: the model.
        model: its name, for the title.
        dtype: "float32", "bfloat16" or "float16", for weights and cache alike.
        batch: sequences generated at once.
        context: tokens in each.
        component: a component's name to see its formula, or "everything".

    Raises:
        ValueError: for an unknown dtype or component, or a batch or context below 1.

    >>> frame = budget_frame(MistralConfig.mistral_7b_v0_1(), context=32768)
    >>> frame.weight_bytes, frame.cache_bytes, frame.unbounded_bytes // frame.cache_bytes
    (14483464192, 536870912, 8)
    """
    if batch < 1 or context < 1:
        raise ValueError(f"batch={batch} and context={context} must both be at least 1")
    parts = components(config)
    names = (EVERYTHING, *(part.name for part in parts))
    if component not in names:
        raise ValueError(f"component={component!r} is not one of {names}")
    heads = config.num_hidden_layers * config.num_key_value_heads
    token_bytes = 2 * heads * config.head_dim * item_size(dtype)
    return BudgetFrame(
        model, parts, dtype, batch, context, config.sliding_window, token_bytes, component
    )
