"""`mistral-edu doctor`: the work is done in `mistral_edu.doctor`."""

import argparse

HELP = "what this machine is, and what of the course it can run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(options: argparse.Namespace) -> int:
    """Print the report; 1 if something would stop the course."""
    from mistral_edu import doctor

    text, problems = doctor.report()
    print(text)
    return 1 if problems else 0
