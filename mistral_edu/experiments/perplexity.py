"""Perplexity by position, far beyond the training context, with three ways of remembering.

    window       a query sees the last W tokens, as in training
    full cache   it sees every earlier token
    sinks        it sees the first 4 tokens and the last W − 4

Source: Xiao and others, "Efficient Streaming Language Models with Attention Sinks"
(arXiv 2309.17453), section 3.
Lesson: 15_long_context.

Conventions
    A document is a chain of held-out stories, <s> text </s> <s> text </s> …, at positions 0, 1,
    2, … without a gap; training kept stories apart. All ways read the same documents.
    Positions stay absolute, so the first tokens move away without end; the paper counts positions
    within the cache instead.
    The loss of a token lies at its own position. A begin token is not counted: nothing tells when
    a story ends there. Perplexity is exp of the mean loss in nats.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float, Int
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor
from torch.nn import functional

from mistral_edu import load
from mistral_edu.experiments import sinks
from mistral_edu.experiments.record import Clock, Measurement, Row
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training.parallel import one_thread_each
from mistral_edu.training.world import stories
from mistral_edu.viz.style import BLUE, INK, LINE, QUIET, VERMILLION, card, panel, sheet

WINDOW, FULL, KEPT = "window", "full cache", "window and first tokens"
LOOKS = {WINDOW: ("-", "o", BLUE), FULL: ("--", "s", VERMILLION), KEPT: (":", "^", INK)}


@dataclass(frozen=True)
class Settings:
    """What is measured; the defaults are the course's measurement.

    Args:
        model: a name that `load` knows; the model has a window.
        documents: how many, of seeds 0, 1, 2, …
        length: tokens in each.
        bin_width: positions that are averaged into one row.
        workers: documents read at the same time, each by one thread.
    """

    model: str = "tiny"
    documents: int = 24
    length: int = 4096
    bin_width: int = 256
    workers: int = 2


@contextmanager
def remembering(model: MistralForCausalLM, length: int) -> Iterator[dict[str, MistralForCausalLM]]:
    """The same weights with each way of remembering, for texts of so many tokens.

    Inside the block the backend of the third way is in the registry.

    Raises:
        ValueError: for a model whose window is not above 4, or that has none.
    """
    window = model.config.sliding_window
    if window is None or window <= sinks.FIRST:
        raise ValueError(f"sliding_window={window}: expected more than {sinks.FIRST}")
    found = {}
    with sinks.registered() as backend:
        ways = {WINDOW: (window, "sdpa"), FULL: (None, "sdpa"), KEPT: (window, backend)}
        for way, (wide, attention) in ways.items():
            # The longest position is declared, or the model would warn at every text.
            config = model.config.changed(sliding_window=wide, max_position_embeddings=length)
            found[way] = MistralForCausalLM(config, attention).to(model.device, model.dtype).eval()
            found[way].load_state_dict(model.state_dict())
        yield found


def chain(tokenizer: MistralTokenizer, seed: int, length: int) -> Int[Tensor, "1 T"]:
    """One document: held-out stories of a seed, one after another, cut at `length` tokens."""
    return torch.tensor([list(islice(_tokens(tokenizer, seed), length))])


def _tokens(tokenizer: MistralTokenizer, seed: int) -> Iterator[int]:
    for story in stories(seed, split="test"):
        yield from tokenizer.encode(story.text, bos=True, eos=True)


@torch.no_grad()
def losses(model: MistralForCausalLM, ids: Int[Tensor, "1 T"]) -> Float[Tensor, "T"]:
    """The loss of each token, foreseen from those before it, in nats; the first one's is 0."""
    logits = model(ids, use_cache=False).logits[0, :-1]
    return functional.pad(functional.cross_entropy(logits, ids[0, 1:], reduction="none"), (1, 0))


def measure(settings: Settings | None = None) -> Measurement:
    """Read every document in every way; a few minutes with the default settings.

    Args:
        settings: what to measure instead of the course's measurement.

    Returns:
        Rows of way, position_from, position_to (not included), loss in nats, perplexity, tokens.
    """
    settings, clock = settings or Settings(), Clock()
    with one_thread_each():
        model, tokenizer = load(settings.model)
        documents = [chain(tokenizer, s, settings.length) for s in range(settings.documents)]
        ids = torch.cat(documents)
        begins = ids.eq(ids[0, 0])  # Every document starts with a begin token.
        rows: list[Row] = []
        pool = ThreadPoolExecutor(settings.workers)
        with pool, remembering(model, settings.length) as ways:
            for way, one in ways.items():
                found = torch.stack(list(pool.map(partial(losses, one), documents)))
                rows += binned(way, found, ~begins, settings.bin_width)
    trained_to = model.config.max_position_embeddings
    settled = asdict(settings) | {
        "window": model.config.sliding_window,
        "trained_to": trained_to,
        "first_tokens": sinks.FIRST,
    }
    return Measurement("perplexity", finding(rows, trained_to), settled, rows, clock.seconds)


def binned(way: str, found: Float[Tensor, "B T"], counted: Tensor, width: int) -> list[Row]:
    """Average the losses of counted tokens over bins of positions.

    >>> counted = torch.tensor([[False, True, True]])
    >>> rows = binned("window", torch.tensor([[9.0, 1.0, 2.0]]), counted, width=2)
    >>> [(row["position_from"], row["loss"], row["tokens"]) for row in rows]
    [(0, 1.0, 1), (2, 2.0, 1)]
    """
    rows: list[Row] = []
    for start in range(0, found.shape[1], width):
        kept = counted[:, start : start + width]
        loss = float(found[:, start : start + width][kept].double().mean())
        rows.append(
            {
                "way": way,
                "position_from": start,
                "position_to": min(start + width, found.shape[1]),
                "loss": loss,
                "perplexity": math.exp(loss),
                "tokens": int(kept.sum()),
            }
        )
    return rows


def spans(rows: Sequence[Row], trained_to: int) -> dict[str, tuple[float, float]]:
    """For each way, the perplexity within the training context and at the end of the documents.

    The end is the bins that touch the last eighth of the positions. Both are exp of the mean loss
    of the tokens.
    """
    end = max(row["position_to"] for row in rows)
    found = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        mine = [row for row in rows if row["way"] == way]
        inside = [row for row in mine if row["position_from"] < trained_to]
        last = [row for row in mine if row["position_to"] > end * 7 // 8]
        found[way] = (_perplexity(inside), _perplexity(last))
    return found


def _perplexity(rows: Sequence[Row]) -> float:
    tokens = sum(row["tokens"] for row in rows)
    return math.exp(sum(row["loss"] * row["tokens"] for row in rows) / tokens)


def finding(rows: Sequence[Row], trained_to: int) -> str:
    """One sentence: the window's perplexity here and there, and the others' beside it."""
    end = max(row["position_to"] for row in rows)
    found = spans(rows, trained_to)
    near, far = found.pop(WINDOW)
    others = (
        f"{way} {inside / near:.2f} and {last / far:.2f} times that"
        for way, (inside, last) in found.items()
    )
    return (
        f"{WINDOW.capitalize()}: perplexity {near:.2f} within the {trained_to:,} positions of "
        f"training, {far:.2f} near position {end:,}; {'; '.join(others)}"
    )


def draw(measurement: Measurement, path: Path) -> None:
    """Draw perplexity against position, a line for each way, as a PNG."""
    with sheet():
        figure = card(4.9, measurement.finding)
        axes = panel(figure, 0.8, 0.75, 6.4, 2.9)
        for way, (dash, mark, colour) in LOOKS.items():
            mine = [row for row in measurement.rows if row["way"] == way]
            middles = [(row["position_from"] + row["position_to"]) / 2 for row in mine]
            heights = [row["perplexity"] for row in mine]
            axes.plot(middles, heights, dash, marker=mark, ms=4, color=colour, label=way)
        trained_to = measurement.settings["trained_to"]
        axes.axvline(trained_to, color=LINE, lw=1, zorder=0)
        axes.text(
            trained_to,
            1.01,
            f"training: to position {trained_to:,}",
            size=8.5,
            color=QUIET,
            transform=axes.get_xaxis_transform(),
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="position in the text (tokens)", ylabel="perplexity (log scale)")
        axes.legend(frameon=False)
        figure.savefig(path, format="png")
