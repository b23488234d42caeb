"""Losses: how far scores are from labels.

    cross-entropy   mean of −log softmax(scores)[label]
    BCE             mean of −(y log σ(s) + (1 − y) log(1 − σ(s)))
    MSE             mean of (s − y)²

Source: the model documentation's `labels` of each head.
Lesson: 10_heads_and_training.

Conventions
    Computed in float32, whatever the type of the scores. A label of −100 is ignored by the
    cross-entropy; if all are, the loss is 0 with zero gradients, not 0/0.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mistral_edu.config import MistralConfig

IGNORED = -100


def require_classes(labels: Tensor, classes: int) -> None:
    """Refuse labels that are no whole numbers, or neither of 0 to classes − 1 nor −100.

    >>> require_classes(torch.tensor([8]), classes=8)
    Traceback (most recent call last):
    ...
    ValueError: labels holds 8, expected 0 to 7, or -100 where no loss is wanted
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels has dtype {labels.dtype}, expected whole numbers: call .long()")
    odd = (labels != IGNORED) & ((labels < 0) | (labels >= classes))
    if odd.any():
        raise ValueError(
            f"labels holds {labels[odd][0].item()}, expected 0 to {classes - 1}, or {IGNORED} "
            "where no loss is wanted"
        )


def mean_cross_entropy(scores: Float[Tensor, "N classes"], labels: Tensor) -> Float[Tensor, ""]:
    """Mean cross-entropy over the labels that are not −100; 0 if there is none.

    Raises:
        ValueError: see `require_classes`.

    >>> mean_cross_entropy(torch.zeros(2, 8), torch.tensor([3, -100]))
    tensor(2.0794)
    """
    require_classes(labels, scores.shape[1])
    targets = labels.to(scores.device).long()
    total = functional.cross_entropy(scores.float(), targets, ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)


def problem_type(config: MistralConfig, labels: Tensor) -> str:
    """Which problem a classifier solves: as the config says, or else as the labels look.

    One label: regression. Whole numbers: one of several classes. Else: several yes/no labels.
    The config is only read. (`transformers` writes what it inferred into it, so that the first
    batch decides for all that follow.)

    >>> problem_type(MistralConfig(num_labels=3), torch.tensor([0, 2]))
    'single_label_classification'
    """
    if config.problem_type is not None:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    real = labels.is_floating_point()
    return "multi_label_classification" if real else "single_label_classification"


def require_text_labels(labels: Tensor, batch: int, config: MistralConfig) -> None:
    """Refuse labels of texts whose shape, type or range does not fit the problem.

    >>> require_text_labels(torch.tensor([0, 1]), batch=2, config=MistralConfig())
    """
    problem, several = problem_type(config, labels), (batch, config.num_labels)
    single = problem == "single_label_classification"
    wanted = (batch,) if single else several
    flat = labels.shape == (batch,) and (single or config.num_labels == 1)
    if not flat and (single or labels.shape != several):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, expected {wanted} for {problem}: "
            f"{'one class' if single else 'num_labels numbers'} for each text"
        )
    if single:
        require_classes(labels, config.num_labels)


def classification_loss(
    scores: Float[Tensor, "B labels"], labels: Tensor, config: MistralConfig
) -> Float[Tensor, ""]:
    """MSE, cross-entropy or binary cross-entropy, by `problem_type`.

    Args:
        scores: one row for each text.
        labels: (B,) classes; or (B, num_labels) numbers, for one label also (B,).

    Raises:
        ValueError: for labels of another shape, type or range.

    >>> scores = torch.tensor([[1.0], [3.0]])
    >>> classification_loss(scores, torch.tensor([1.0, 1.0]), MistralConfig(num_labels=1))
    tensor(2.)
    """
    require_text_labels(labels, len(scores), config)
    problem = problem_type(config, labels)
    if problem == "single_label_classification":
        return mean_cross_entropy(scores, labels)
    targets = labels.to(scores.device).float().view_as(scores)
    if problem == "regression":
        return functional.mse_loss(scores.float(), targets)
    return functional.binary_cross_entropy_with_logits(scores.float(), targets)
