"""Machines for the roofline: how fast they read, how fast they multiply, and who says so.

    recorded      the two cores of data/measurements/bench-small229.json
    data sheet    an H200; no measurement, and this project has not run on one
    measured      the machine that runs this code, now

Source: NVIDIA's H200 data sheet (memory 4.8 TB/s; bfloat16 989 and float32 67 TFLOP/s, dense).
Lesson: 14_the_full_7b.

Conventions
    Bytes and operations a second, decimal. A data sheet states what was built in, a measurement
    what was reached.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mistral_edu.bench import ceilings
from mistral_edu.experiments.record import read
from mistral_edu.viz.workload import Work, number_type

RECORD = "bench-small229"


@dataclass(frozen=True)
class Machine:
    """The two limits of a machine.

    Args:
        name: a few words.
        read: bytes a second from memory.
        multiply: operations a second, for float32 and bfloat16.

    >>> slow = Machine("slow", read=10.0, multiply={"float32": 40.0, "bfloat16": 80.0})
    >>> slow.ridge("float32"), slow.bound("float32", Work("a step", 1, bytes=20, operations=40))
    (4.0, 'memory')
    """

    name: str
    read: float
    multiply: Mapping[str, float]

    def rate(self, precision: str) -> float:
        """Operations a second in a precision; see `workload.number_type`."""
        return self.multiply[ceilings.name_of(number_type(precision))]

    def ridge(self, precision: str) -> float:
        """The intensity, operations a byte, from which on multiplying is the limit."""
        return self.rate(precision) / self.read

    def bound(self, precision: str, work: Work) -> str:
        """What limits some work: "memory" or "arithmetic"."""
        return "memory" if work.intensity < self.ridge(precision) else "arithmetic"

    def roof(self, precision: str, intensity: float) -> float:
        """Operations a second that are possible at an intensity."""
        return min(self.rate(precision), self.read * intensity)

    def seconds(self, precision: str, work: Work) -> float:
        """The least time for some work."""
        return max(work.bytes / self.read, work.operations / self.rate(precision))

    def tokens_per_second(self, precision: str, work: Work) -> float:
        """The most tokens a second, over all rows."""
        return work.tokens / self.seconds(precision, work)


H200 = Machine("H200, data sheet", 4.8e12, {"float32": 67e12, "bfloat16": 989e12})


def recorded_machine() -> Machine:
    """The machine of the recorded benchmark, by the limits measured with it.

    >>> recorded_machine().name
    'recorded machine, 2 cores'
    """
    record = read(RECORD)
    limits, cores = record["settings"]["limits"], record["machine"]["cores"]
    multiply = {kind: 1e9 * limits[kind][f"matmul {kind}"]["median"] for kind in limits}
    name = f"recorded machine, {cores} cores"
    return Machine(name, 1e9 * limits["bfloat16"]["read"]["median"], multiply)


def measured_machine() -> Machine:
    """This machine's processor, measured now on the threads that torch uses; some seconds.

    >>> from unittest.mock import patch
    >>> from mistral_edu.bench.timing import Spread
    >>> rate = Spread.of([4e9])
    >>> found = ceilings.Ceilings(rate, rate, {"float32": rate, "bfloat16": rate})
    >>> with patch("mistral_edu.bench.ceilings.measure", return_value=found):
    ...     measured_machine().read
    4000000000.0
    """
    types = (torch.float32, torch.bfloat16)
    found = ceilings.measure(types, torch.device("cpu"), quick=True)
    threads = torch.get_num_threads()
    name = f"this machine, {threads} {'thread' if threads == 1 else 'threads'}"
    rates = {kind: rate.median for kind, rate in found.matmul.items()}
    return Machine(name, found.read.median, rates)
