"""The loss curve of a training run, as a figure.

Lesson: 10_heads_and_training.
"""

from pathlib import Path

from mistral_edu.training.run import Record
from mistral_edu.weights.whole_files import whole_file

SMOOTHING = 25


def smoothed(values: list[float], width: int) -> list[float]:
    """The mean of each value and those before it, up to `width` of them.

    >>> smoothed([4.0, 2.0, 0.0], width=2)
    [4.0, 3.0, 1.0]
    """
    spans = (values[max(0, end - width) : end] for end in range(1, len(values) + 1))
    return [sum(span) / len(span) for span in spans]


def draw(record: Record, path: Path) -> None:
    """Draw training and held-out loss against the step, and write a PNG.

    Args:
        record: of a run.
        path: the file; replaced whole.
    """
    from matplotlib.figure import Figure  # Training itself needs no plotting.

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    steps = range(1, len(record.losses) + 1)
    axes.plot(steps, smoothed(record.losses, SMOOTHING), color="#440154", label="training")
    if record.held_out:
        at, losses = zip(*record.held_out, strict=True)
        axes.plot(at, losses, "o--", color="#1f9e89", label="held-out stories")
    axes.set_xlabel(f"step ({record.tokens:,} tokens in all)")
    axes.set_ylabel("loss, nats per token")
    axes.set_yscale("log")
    last = record.held_out[-1][1] if record.held_out else record.losses[-1]
    axes.set_title(f"After {record.steps} steps the held-out loss is {last:.3f} nats")
    axes.legend()
    axes.grid(visible=True, alpha=0.3)
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
