"""The `mistral-edu` command: look at the machine, let a model write, open the lessons.

    mistral-edu doctor
    mistral-edu generate "In the valley" --model tiny
    mistral-edu chat
    mistral-edu lab
    mistral-edu convert SOURCE TARGET --to original
    mistral-edu verify PATH
    mistral-edu train --config RECIPE
    mistral-edu experiment recall
    mistral-edu bench --quick

Each command is a module of `mistral_edu.commands`. Every mistake of the person typing ends in one
clear line and exit status 2, Ctrl-C in exit status 130.
Lesson: 00_map_and_toolbox.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from mistral_edu.commands import (
    bench,
    chat,
    convert,
    doctor,
    experiment,
    generate,
    lab,
    train,
    verify,
)
from mistral_edu.commands.printing import plain_warnings

COMMANDS = {
    "doctor": doctor,
    "generate": generate,
    "chat": chat,
    "lab": lab,
    "convert": convert,
    "verify": verify,
    "train": train,
    "experiment": experiment,
    "bench": bench,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 doctor found a fault, 2 a mistake.

    Args:
        arguments: the words after `mistral-edu`; None takes those of this process.

    >>> main(["generate", "Once", "--temperature", "-1"])
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        with plain_warnings():
            return int(options.run(options))
    except BrokenPipeError:  # `mistral-edu generate … | head` has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stopped:
        print()
        if stopped.args:
            print(f"mistral-edu: {stopped}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, RuntimeError) as mistake:
        print(f"mistral-edu: {mistake}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help tells more)\n")


def _version() -> str:
    try:
        return metadata.version("mistral-edu")
    except metadata.PackageNotFoundError:
        return "of a folder that was not installed"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mistral-edu", description="Mistral-7B, built and taken apart.")
    parser.add_argument("--version", action="version", version=f"mistral-edu {_version()}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run, refuse=command.error)
    return parser
