"""The training loop: predict the next token, follow the gradient downhill, repeat.

    weights ← AdamW(weights, ∇ loss),   learning rate: linear warm-up, then half a cosine to a tenth

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101).
Lesson: 10_heads_and_training.

Conventions
    One step is one batch. Matrices decay, norms do not. Gradients are clipped to norm 1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from mistral_edu.heads import MistralForCausalLM


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Args:
        steps: batches to learn from.
        learning_rate: the highest, reached after `warmup` steps.
        warmup: steps of linear increase.
        weight_decay: shrinkage of the matrices per unit of learning rate.
    """

    steps: int
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.1


def learning_rate_at(step: int, options: TrainingOptions) -> float:
    """The learning rate of one step.

    >>> options = TrainingOptions(steps=100, learning_rate=1.0, warmup=10)
    >>> [round(learning_rate_at(step, options), 2) for step in (0, 9, 55, 99)]
    [0.1, 1.0, 0.55, 0.1]
    """
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    progress = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def optimizer_for(model: nn.Module, options: TrainingOptions) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves norms alone."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    norms = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95))


def train(
    model: MistralForCausalLM,
    stream: Iterator[Int[Tensor, "B T"]],
    options: TrainingOptions,
    *,
    progress: bool = True,
) -> list[float]:
    """Train `model` in place; return the loss of every step, in nats per token.

    Args:
        model: left in evaluation mode.
        stream: batches of token ids; each is moved to the model's device.
        options: how.
        progress: show a live bar with the loss.

    Raises:
        FloatingPointError: when the loss is no longer a number.
    """
    optimizer = optimizer_for(model, options)
    losses = []
    model.train()
    bar = tqdm(range(options.steps), disable=not progress, unit="step", desc="training")
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, options)
        ids = next(stream).to(model.device)
        loss = model(ids, labels=ids, use_cache=False).loss
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss at step {step} is {loss.item()}: lower learning_rate="
                f"{options.learning_rate} or lengthen warmup={options.warmup}"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    model.eval()
    return losses


@torch.no_grad()
def held_out_loss(
    model: MistralForCausalLM, blocks: Int[Tensor, "N T"], batch_size: int = 8
) -> float:
    """Mean loss over blocks the model has not learned from, in nats per token."""
    model.eval()
    total = 0.0
    for ids in blocks.split(batch_size):
        ids = ids.to(model.device)
        total += float(model(ids, labels=ids, use_cache=False).loss) * len(ids)
    return total / len(blocks)
