"""`mistral-edu generate`: let a model continue a prompt.

Lesson: 00_map_and_toolbox.
"""

import argparse
import sys

from mistral_edu.commands import arguments, printing, writers

HELP = "continue a prompt, printing each piece as the model chooses it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The prompt, the model, and how to draw."""
    parser.add_argument("prompt", help="the text to continue")
    parser.add_argument(
        "--model", default="tiny", help='"tiny", a folder, or a hub id (%(default)s)'
    )
    parser.add_argument(
        "--max-new-tokens", type=arguments.count, default=120, metavar="N", help="(%(default)s)"
    )
    parser.add_argument(
        "--temperature",
        type=arguments.temperature,
        default=0.8,
        help="0 always takes the likeliest (%(default)s)",
    )
    parser.add_argument(
        "--top-p",
        type=arguments.probability,
        default=0.95,
        help="draw from this much probability (%(default)s)",
    )
    parser.add_argument("--top-k", type=arguments.count, help="draw from the K likeliest")
    parser.add_argument(
        "--min-p",
        type=arguments.probability,
        help="draw from tokens at least this many times as likely as the likeliest",
    )
    parser.add_argument(
        "--repetition-penalty",
        type=arguments.penalty,
        default=1.0,
        help="above 1: repeat less (%(default)s)",
    )
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        type=arguments.wording,
        dest="stop_strings",
        metavar="TEXT",
        help="end once this is written; may be given again",
    )
    arguments.add_seed(parser)
    writers.add_choice(parser)
    arguments.add_placement(parser)


def run(options: argparse.Namespace) -> int:
    """Write the prompt and its continuation as they are made."""
    import torch

    model, tokenizer = arguments.load_placed(options)
    prompt = tokenizer.encode(options.prompt)
    if tokenizer.ends_in_space(prompt):
        print("mistral-edu: without its last space this prompt continues better", file=sys.stderr)
    names = ["max_new_tokens", "repetition_penalty", "stop_strings"]
    if options.temperature > 0:
        names += ["temperature", "top_k", "top_p", "min_p", "seed"]
    length = len(prompt) + options.max_new_tokens
    writer = writers.writer_of(model, length, options, capacity=length)
    tokens = writer.stream(
        torch.tensor([prompt], device=model.device),
        tokenizer=tokenizer,
        do_sample=options.temperature > 0,
        **{name: getattr(options, name) for name in names},
    )
    # The decoder reads the prompt too: it decides which piece loses its leading space.
    decoder = tokenizer.decoder()
    with printing.text_printed() as write:
        write("".join(decoder.add(token) for token in prompt))
        for token in tokens:
            write(decoder.add(int(token)))
        write(decoder.finish())
    return 0
