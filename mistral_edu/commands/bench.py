"""`mistral-edu bench`: measure this project beside its peers.

A long run can be made in parts, each a run with a record of its own:

    mistral-edu bench --model 7b --only decode --batches 1 --output parts/1
    mistral-edu bench --model 7b --only curve --windows 1,2,4 --peers plain,engine --output parts/2

Lesson: 14_the_full_7b.
"""

import argparse
from pathlib import Path

from mistral_edu.commands import arguments

HELP = "measure speed and memory beside transformers, llama.cpp and the limits of the machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the types, who takes part, and where the record goes."""
    parser.add_argument(
        "--model",
        default="small229",
        help="tiny, small229 or 7b, random but for tiny (%(default)s)",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        type=_names,
        metavar="NAMES",
        help="float32, bfloat16, float16; several with commas (%(default)s)",
    )
    parser.add_argument(
        "--peers",
        type=_names,
        metavar="NAMES",
        help="who is measured, with commas; all adds those that take long to warm up",
    )
    parser.add_argument(
        "--only",
        type=_names,
        metavar="NAMES",
        help="prefill, decode, curve, cache, loading; some with commas, to measure in parts (all)",
    )
    parser.add_argument(
        "--batches", type=_counts, metavar="N,N", help="rows to decode at once (1,8)"
    )
    parser.add_argument(
        "--windows", type=_counts, metavar="N,N", help="lengths of the curve, in windows (1,2 … 64)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer blocks and shorter texts")
    parser.add_argument(
        "--longest", type=arguments.count, metavar="N", help="tokens of the longest prompt"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where (a GPU if there is one)")
    parser.add_argument("--output", type=Path, help="the folder to write (data/measurements)")


def run(options: argparse.Namespace) -> int:
    """Measure, print the table, write the record and its figure."""
    from mistral_edu.bench import report
    from mistral_edu.bench.run import Settings, measure
    from mistral_edu.experiments import record

    arguments.require_device(options.device)
    settings = Settings(
        options.model,
        options.dtype,
        options.peers,
        options.quick,
        options.longest,
        options.device,
        options.only,
        options.batches,
        options.windows,
    )
    output = arguments.writable(options.output or record.measurements_dir())
    measurement = measure(settings)
    written = measurement.write(output, report.draw)
    print(report.table(measurement))
    print(f"\n{measurement.finding}\n{written}")
    return 0


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing: give names with commas")
    return names


def _counts(text: str) -> tuple[int, ...]:
    return tuple(arguments.count(name) for name in _names(text))
