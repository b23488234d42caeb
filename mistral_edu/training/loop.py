"""The training loop: predict the next token, follow the gradient downhill, repeat.

    loss = Σ weight · −log p(token) / Σ weight
    matrices ← Muon,  all else ← AdamW;   learning rate: up, level, down a parabola

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101), and
that of `muon.py`.
Lesson: 10_heads_and_training.

Conventions
    One step is one batch. Norms do not decay. Gradients are clipped to norm 1. Weights are float32;
    a recipe may ask for products of matrices in bfloat16, which a CPU or GPU that has instructions
    for them does twice as fast, and any other CPU much more slowly.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mistral_edu.heads import MistralForCausalLM
from mistral_edu.training.batches import Batch
from mistral_edu.training.muon import Muon
from mistral_edu.training.parallel import gradients, token_losses
from mistral_edu.training.recipe import TrainingOptions


def rate_at(step: int, options: TrainingOptions) -> float:
    """The share of the highest learning rate that one step uses.

    Up to the decrease it does not depend on how many steps there will be: a run can be made longer.
    The decrease is a parabola: most of it early, and many steps at a low rate.

    >>> options = TrainingOptions(steps=100, warmup=10, decay_steps=20)
    >>> [round(rate_at(step, options), 2) for step in (0, 9, 79, 90, 99)]
    [0.1, 1.0, 1.0, 0.26, 0.01]
    """
    growing = (step + 1) / max(1, options.warmup)
    left = (options.steps - step) / max(1, options.decay_steps)
    return min(1.0, growing, 0.01 + 0.99 * left * abs(left))


def optimizers_for(
    model: nn.Module, options: TrainingOptions
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices of the layers; AdamW for the embeddings, the head and the norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.dim() == 2 and ".layers." in name]
    tables = [p for name, p in named if p.dim() == 2 and ".layers." not in name]
    norms = [p for name, p in named if p.dim() != 2]
    muon = Muon(
        matrices,
        options.matrix_learning_rate,
        options.weight_decay,
        options.dtype,
        options.workers,
    )
    groups = [
        {"params": tables, "weight_decay": options.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95))
    return muon, adam


class Trainer:
    """A model in training: its optimisers, its step, and what has happened so far.

    Args:
        model: trained in place.
        options: how.
    """

    def __init__(self, model: MistralForCausalLM, options: TrainingOptions) -> None:
        self.model, self.options = model, options
        self.optimizers = optimizers_for(model, options)
        self.step = 0
        self.losses: list[float] = []

    def learn(self, batch: Batch) -> float:
        """Take one step; return the loss per token, each token counting 1, in nats.

        Raises:
            FloatingPointError: when the loss is no longer a number.
        """
        self.model.train()
        batch = batch.to(self.model.device)
        summed, weighted, loss = gradients(
            self.model, batch, self.options.workers, self.options.dtype
        )
        if not math.isfinite(weighted):
            raise FloatingPointError(
                f"the loss at step {self.step} is {weighted}: lower learning_rate="
                f"{self.options.learning_rate} or lengthen warmup={self.options.warmup}"
            )
        for parameter, gradient in zip(self.model.parameters(), summed, strict=True):
            parameter.grad = gradient
        self._follow()
        self.losses.append(loss)
        self.step += 1
        return loss

    def _follow(self) -> None:
        rate = rate_at(self.step, self.options)
        highest = (self.options.matrix_learning_rate, self.options.learning_rate)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, most in zip(self.optimizers, highest, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = most * rate
            optimizer.step()

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "losses": self.losses,
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state that `state` returned."""
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.losses = state["step"], list(state["losses"])
        torch.set_rng_state(state["random"])


@torch.no_grad()
def held_out_loss(model: MistralForCausalLM, batches: Sequence[Batch]) -> float:
    """Mean loss per token, each counting 1, over batches not learned from; in nats."""
    model.eval()
    total = count = 0.0
    for batch in batches:
        batch = batch.to(model.device)
        counted = batch.weights > 0
        total += float((token_losses(model, batch) * counted).sum())
        count += float(counted.sum())
    return total / count
