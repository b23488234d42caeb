"""`mistral-edu chat`: talk with an instruct model, one line a turn.

Lesson: 12_generation_and_chat.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mistral_edu.commands import arguments, printing, writers

if TYPE_CHECKING:
    from mistral_edu.tokenizer import MistralTokenizer

HELP = "talk with an instruct model, one line a turn; an empty line or Ctrl-D ends it"
BASE, COURSE_MODEL = "tiny", "tiny-instruct"
ONLY_CONTINUES = f"{BASE} only continues text; --model {COURSE_MODEL} was trained to answer"
KNOWS = 'It knows one small valley. Try "Pascal has a comb. What belongs to Pascal?"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, what it is told first, and how to draw."""
    parser.add_argument(
        "--model",
        default=COURSE_MODEL,
        help='"tiny-instruct", a folder, or a hub id of an instruct model (%(default)s)',
    )
    parser.add_argument("--system", help="what the model is told before the first question")
    parser.add_argument(
        "--max-new-tokens", type=arguments.count, default=200, metavar="N", help="(%(default)s)"
    )
    parser.add_argument(
        "--temperature",
        type=arguments.temperature,
        default=0.0,
        help="0 always takes the likeliest (%(default)s)",
    )
    arguments.add_seed(parser)
    writers.add_choice(parser)
    arguments.add_placement(parser)


def run(options: argparse.Namespace) -> int:
    """Read a question, write the answer, until an empty line."""
    model, tokenizer = arguments.load_placed(options)
    longest = model.config.max_position_embeddings
    writer = writers.writer_of(model, options.max_new_tokens, options, capacity=longest)
    _introduce(options.model)
    messages = [{"role": "system", "content": options.system}] if options.system else []
    while question := _ask():
        messages.append({"role": "user", "content": question})
        said = ""
        with printing.text_printed() as write:
            for text in answer(writer, tokenizer, messages, options):
                write(text)
                said += text
        if said:
            messages.append({"role": "assistant", "content": said})
        else:  # The model ended at once. An empty answer has no rendering, so forget the question.
            messages.pop()
    return 0


def _introduce(model: str) -> None:
    """Say on stderr who answers, and to a person how to ask and to end."""
    if model == BASE:
        print(f"mistral-edu: {ONLY_CONTINUES}", file=sys.stderr)
    if sys.stdin.isatty():
        who = "" if model == BASE else f"{model} answers. "
        about = f"{KNOWS} " if model == COURSE_MODEL else ""
        print(f"{who}{about}An empty line or Ctrl-D ends it.", file=sys.stderr)


def _ask() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return ""


def answer(
    writer: Any,
    tokenizer: "MistralTokenizer",
    messages: list[dict[str, str]],
    options: argparse.Namespace,
) -> Iterator[str]:
    """Yield the answer to the last message, piece by piece, as a model or an engine makes it."""
    import torch

    drawing = {"temperature": options.temperature, "seed": options.seed + len(messages)}
    tokens = writer.stream(
        torch.tensor([tokenizer.apply_chat_template(messages)], device=writer.device),
        max_new_tokens=options.max_new_tokens,
        do_sample=options.temperature > 0,
        **(drawing if options.temperature > 0 else {}),
    )
    decoder = tokenizer.decoder()
    for token in tokens:
        yield decoder.add(int(token[0]))
    yield decoder.finish()
