"""`mistral-edu experiment`: put one question to small models again, and record what came out.

Lesson: 15_long_context.
"""

import argparse
from importlib import import_module
from pathlib import Path

from mistral_edu.commands import arguments

HELP = "make one of the course's measurements again: a table and a figure in data/measurements"
EXPERIMENTS = (
    "recall",
    "perplexity",
    "pooling",
    "kv_heads",
    "classification",
    "attention",
    "seven_b",
    "quantization",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which experiment, and where its table and figure go."""
    parser.add_argument("name", choices=EXPERIMENTS, help="the question")
    parser.add_argument("--output", type=Path, help="the folder to write (data/measurements)")


def run(options: argparse.Namespace) -> int:
    """Measure, write the table and the figure, print the finding."""
    from mistral_edu.experiments import record

    experiment = import_module(f"mistral_edu.experiments.{options.name}")
    output = arguments.writable(options.output or record.measurements_dir())
    if took := record.last_took(options.name):
        record.say(f"{options.name}: the recorded run took {took}")
    measurement = experiment.measure()
    table = measurement.write(output, experiment.draw)
    print(measurement.finding)
    print(table)
    return 0
