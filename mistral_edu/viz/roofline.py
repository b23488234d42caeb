"""The roofline, the data: where a pass of the 7B lies under a machine's two limits.

    speed ≤ min(multiply, read · intensity);   tokens a second = tokens / seconds

Both limits are lines on a log-log plot: a slope, along which reading binds, and a flat roof, under
which multiplying does. They meet at the ridge. The machine decides where the ridge is; batch,
precision and context decide where the work is.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model"
(Communications of the ACM, 2009), the part "The Roofline Model".
Lesson: 14_the_full_7b. The drawing is in `roofline_figure.py`.

Conventions
    Counts are in `workload.py`, machines in `machines.py`; nothing here measures.
    What is predicted is a limit: a program may stay below it, for a hundred reasons.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from mistral_edu.config import MistralConfig
from mistral_edu.viz.frame import Frame, aligned, count
from mistral_edu.viz.machines import Machine, recorded_machine
from mistral_edu.viz.workload import Work, decoding, prompt

BATCHES = (1, 8, 64)
PROMPT = 512
WIDEST_BATCH = 64
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


@dataclass(frozen=True, eq=False)
class RooflineFrame(Frame):
    """A batch being decoded under a machine's roof, among other passes of the same model.

    Args:
        machine: gives the two limits.
        precision: of the weights.
        context: tokens that each row has seen.
        chosen: the batch that is looked at.
        others: batches of 1, 8 and 64, and a prompt.
        crossover: the batch from which on multiplying binds, or None if no batch is large enough.
    """

    topic: ClassVar[str] = "roofline"
    machine: Machine
    precision: str
    context: int
    chosen: Work
    others: tuple[Work, ...]
    crossover: int | None

    @property
    def ridge(self) -> float:
        """Operations a byte at which the two limits meet."""
        return self.machine.ridge(self.precision)

    @property
    def limit(self) -> float:
        """The most tokens a second of the chosen batch, over all its rows."""
        return self.machine.tokens_per_second(self.precision, self.chosen)

    @property
    def bound(self) -> str:
        """What binds the chosen batch: "memory" or "arithmetic"."""
        return self.machine.bound(self.precision, self.chosen)

    @property
    def title(self) -> str:
        batch = count(self.chosen.tokens, "text")
        return (
            f"The 7B in {self.precision}, {batch} of {self.context:,} tokens: at most "
            f"{digits(self.limit)} tokens a second, bound by {self.bound}"
        )

    @property
    def reading(self) -> tuple[str, str]:
        """The chosen batch and the crossover, each in a line."""
        work = self.chosen
        return (
            f"{work.name}: {prefixed(work.operations, 'FLOP')} for {prefixed(work.bytes, 'B')} is "
            f"{digits(work.intensity)} operations a byte; the ridge is at {digits(self.ridge)}",
            self.turn,
        )

    @property
    def turn(self) -> str:
        """From which batch on multiplying binds, in words."""
        if self.crossover is None:
            return "no batch reaches the ridge: every text brings a cache of its own to read"
        if self.crossover == 1:
            return "multiplying binds at every batch"
        return f"multiplying binds from a batch of {self.crossover:,} on"

    @property
    def summary(self) -> str:
        points = "; ".join(
            f"{work.name} at {digits(work.intensity)} operations a byte, "
            f"{digits(self.machine.tokens_per_second(self.precision, work))} tokens a second"
            for work in self.others
        )
        return (
            f"A roofline of {self.machine.name}: it reads {prefixed(self.machine.read, 'B/s')} "
            f"and multiplies {prefixed(self.machine.rate(self.precision), 'FLOP/s')}. "
            f"{self.title}. For {self.reading[0]}; {self.turn}. Points on the roof: {points}."
        )

    def to_text(self) -> str:
        rows = [["", "operations a byte", "tokens a second", "bound by"]]
        for work in (self.chosen, *self.others):
            speed = self.machine.tokens_per_second(self.precision, work)
            bound = self.machine.bound(self.precision, work)
            rows.append([work.name, f"{digits(work.intensity)}", f"{digits(speed)}", bound])
        rows[1][0] = f"▸ {rows[1][0]}"
        return "\n".join([self.title, *aligned(rows), *self.reading])


def roofline_frame(
    machine: Machine | None = None,
    precision: str = "bfloat16",
    batch: int = 1,
    context: int = 4096,
    config: MistralConfig | None = None,
) -> RooflineFrame:
    """Place a batch under a machine's roof.

    Args:
        machine: by default the recorded one.
        precision: of the weights, one of `workload.PRECISIONS`.
        batch: rows that are decoded at once, 1 or more.
        context: tokens that each has seen, 1 or more.
        config: of the model; by default the 7B.

    Raises:
        ValueError: for a batch or a context below 1, or another precision.

    >>> from mistral_edu.viz.machines import H200
    >>> frame = roofline_frame(H200, batch=8, context=128)
    >>> round(frame.limit), frame.bound, frame.crossover
    (2675, 'memory', 271)
    """
    if min(batch, context) < 1:
        raise ValueError(f"batch={batch} and context={context} must both be at least 1")
    machine = machine or recorded_machine()
    config = config or MistralConfig.mistral_7b_v0_1()
    works = [decoding(config, precision, rows, context) for rows in (batch, *BATCHES)]
    return RooflineFrame(
        machine,
        precision,
        context,
        works[0],
        (*works[1:], prompt(config, precision, PROMPT)),
        crossover(machine, precision, config, context),
    )


def crossover(machine: Machine, precision: str, config: MistralConfig, context: int) -> int | None:
    """The smallest batch whose operations take as long as its bytes; None if there is none.

    The weights' bytes are shared by the rows, their caches' are not: where a row's cache takes
    longer to read than its products to do, a larger batch never helps.

    >>> crossover(recorded_machine(), "bfloat16", MistralConfig.mistral_7b_v0_1(), context=4096)
    """
    one, two = (decoding(config, precision, rows, context) for rows in (1, 2))
    row_bytes = two.bytes - one.bytes
    shared = one.bytes - row_bytes
    gain = one.operations / machine.rate(precision) - row_bytes / machine.read
    return math.ceil(shared / machine.read / gain) if gain > 0 else None


def digits(amount: float) -> str:
    """A number in about three digits, never with an exponent.

    >>> digits(0.5554), digits(32.06), digits(53_904.2)
    ('0.555', '32.1', '53,904')
    """
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def prefixed(amount: float, unit: str) -> str:
    """An amount in three digits with the prefix that suits it.

    >>> prefixed(14_221_320_192, "B"), prefixed(989e12, "FLOP/s")
    ('14.2 GB', '989 TFLOP/s')
    """
    scale, prefix = next((p for p in _PREFIXES if amount >= p[0]), (1, ""))
    return f"{amount / scale:.3g} {prefix}{unit}"
