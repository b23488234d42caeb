"""Gradients in parallel: each worker takes some rows of the batch, then the gradients are added.

    ∇ (Σ over rows of loss) = Σ over workers of ∇ (Σ over the worker's rows of loss)

On a CPU this beats letting every small matrix product use all cores: workers meet once a step, not
hundreds of times. And because each worker computes with one thread and the sum has a fixed order,
the result has the same bits whatever the number of cores.
Lesson: 10_heads_and_training.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mistral_edu.heads import MistralForCausalLM
from mistral_edu.training.batches import Batch


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let every operation use one thread inside the block: the workers are the parallelism.

    >>> with one_thread_each():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def token_losses(model: MistralForCausalLM, batch: Batch) -> Float[Tensor, "B T"]:
    """The loss of predicting each token from those before it, in nats; the first of a row is 0."""
    hidden = model.model(
        batch.ids,
        attention_mask=batch.positions >= 0,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    logits = model.lm_head(hidden[:, :-1]).float()
    targets = batch.ids[:, 1:]
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return functional.pad(losses.view_as(targets), (1, 0))


def split(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into at most `parts` of nearly as many rows each."""
    pieces = (
        x.tensor_split(min(parts, len(x))) for x in (batch.ids, batch.positions, batch.weights)
    )
    return [Batch(*part) for part in zip(*pieces, strict=True)]


def gradients(
    model: MistralForCausalLM, batch: Batch, workers: int, dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], float, float]:
    """The gradient of the weighted mean loss for each parameter of the model, in order.

    Args:
        model: with float32 weights.
        batch: on the model's device.
        workers: how many parts are computed at the same time.
        dtype: in which matrices are multiplied ("autocast").

    Returns:
        Gradients; the weighted mean loss; the mean loss of the tokens that have a weight.
    """
    parameters = list(model.parameters())
    total, counted = batch.weights.sum(), (batch.weights > 0).sum()

    def share(part: Batch) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        # The cache of cast weights belongs to the process, not to the thread: leave it off.
        device, low = part.ids.device.type, dtype != torch.float32
        with torch.autocast(device, dtype=dtype, enabled=low, cache_enabled=False):
            losses = token_losses(model, part)
        loss = (losses * part.weights).sum() / total
        plain = (losses.detach() * (part.weights > 0)).sum() / counted
        return torch.autograd.grad(loss, parameters), loss.detach(), plain

    with ThreadPoolExecutor(workers) as pool:
        shares = list(pool.map(share, split(batch, workers)))
    summed = [torch.stack(each).sum(dim=0) for each in zip(*(s[0] for s in shares), strict=True)]
    return summed, float(sum(s[1] for s in shares)), float(sum(s[2] for s in shares))
