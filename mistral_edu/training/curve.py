"""The loss curve of a training run, as a figure.

Lesson: 10_heads_and_training.
"""

from collections.abc import Sequence
from pathlib import Path

from mistral_edu.training.record import Record
from mistral_edu.weights.whole_files import whole_file

SMOOTHING = 25


def smoothed(values: list[float], width: int) -> list[float]:
    """The mean of each value and those before it, up to `width` of them.

    >>> smoothed([4.0, 2.0, 0.0], width=2)
    [4.0, 3.0, 1.0]
    """
    spans = (values[max(0, end - width) : end] for end in range(1, len(values) + 1))
    return [sum(span) / len(span) for span in spans]


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw training and held-out loss against the step, and write a PNG.

    Args:
        records: of the runs that made a model, one after the other.
        path: the file; replaced whole.
    """
    from matplotlib.figure import Figure  # Training itself needs no plotting.

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    before = 0
    for record in records:
        steps = range(before + 1, before + len(record.losses) + 1)
        axes.plot(steps, smoothed(record.losses, SMOOTHING), color="#440154")
        at, losses = zip(*record.held_out, strict=True)
        axes.plot([before + step for step in at], losses, "o--", color="#1f9e89")
        before += record.steps
    axes.set_xlabel(f"step ({sum(record.tokens for record in records):,} tokens in all)")
    axes.set_ylabel("loss, nats per token")
    axes.set_yscale("log")
    axes.set_title(f"After {before} steps the held-out loss is {losses[-1]:.3f} nats")
    axes.legend(axes.get_lines()[:2], ["training", "held out"])
    axes.grid(visible=True, alpha=0.3)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
