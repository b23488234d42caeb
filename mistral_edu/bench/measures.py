"""The measurements themselves, each over all peers in turns.

    prefill          a whole prompt, the last token scored             bound by matmul
    first token      the same for a short prompt, in ms
    decode           tokens one by one: short, full, wrapped window    bound by reading
    one token        ms at 1, 2, 4 … 64 windows: is it flat?
    cache held       bytes, right after a long prompt and some tokens later

Lesson: 14_the_full_7b.

Conventions
    All peers are given the same random ids, which do not depend on what they score.
    A decoding block continues the text where the block before left it.
    The lengths of the curve take turns too, for over minutes a machine may change its speed.
    "Full" is a prompt of W tokens, "wrapped" one of 2.5 W.
    A peer that knows no window is left out of the curve's far end, with the reason: it would take
    the rest of the day to attend to everything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from mistral_edu.bench import costs, results
from mistral_edu.bench.ceilings import Ceilings, name_of
from mistral_edu.bench.peers import Opened, Session
from mistral_edu.bench.results import Case, Quantity, rows_of
from mistral_edu.bench.roster import peer_named
from mistral_edu.bench.sizes import random_ids, window_of
from mistral_edu.bench.timing import Name, Spread, Work, finisher, interleaved
from mistral_edu.config import MistralConfig
from mistral_edu.experiments.record import Row

SHORT = 32  # tokens
DISCARDED = 1  # rounds
LONG_PROMPT = 4  # windows, for the bytes that a cache holds
FAR = 8  # windows; how far a peer without one is followed
USUAL, FEW = 2048, 3  # tokens of a prompt, and rounds for longer ones
ALL = ("prefill", "decode", "curve", "cache", "loading")  # what can be measured by itself


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        prompts: lengths to take in.
        batches: rows to decode at once.
        windows: lengths of text, in windows, for the curve.
        rounds: blocks that count.
        steps: tokens in a block.
        warm_up: tokens before it.
        starts: fresh processes for each peer.
        only: which of `ALL`.
    """

    prompts: tuple[int, ...] = (512, USUAL, 8192, 32768)
    batches: tuple[int, ...] = (1, 8)
    windows: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    rounds: int = 7
    steps: int = 8
    warm_up: int = 2
    starts: int = 3
    only: tuple[str, ...] = ALL

    @property
    def usual(self) -> int:
        """The longest prompt that is not beyond the usual."""
        return max(min(length, USUAL) for length in self.prompts)

    @property
    def decoded(self) -> int:
        """Tokens that all blocks together decode."""
        return (self.rounds + DISCARDED) * (self.steps + self.warm_up)


@dataclass
class Bench:
    """All peers with their weights, in one type, and what they are held against."""

    peers: Mapping[str, Opened]
    config: MistralConfig
    dtype: torch.dtype
    device: torch.device
    limits: Ceilings
    plan: Plan
    say: Callable[[str], None] = print
    failures: list[dict[str, str]] = field(default_factory=list)

    def case(self, batch: int, tokens: int, state: str = "") -> Case:
        """A case in this bench's type."""
        return Case(self.dtype, batch, tokens, state, self.config.sliding_window)

    def ids(self, batch: int, length: int, seed: int = 0) -> Tensor:
        """Ids on the device."""
        return random_ids(self.config, batch, length, seed).to(self.device)

    @contextmanager
    def sessions(self, batch: int, longest: int, prompt: Tensor) -> Iterator[dict[str, Session]]:
        """A session of each peer, having taken in a prompt; who cannot is noted with the reason."""
        opened: dict[str, Session] = {}
        far = prompt.shape[1] > FAR * window_of(self.config)
        for name, peer in self.peers.items():
            try:
                if far and not peer_named(name).windowed:
                    raise ValueError("it attends to all tokens, and these are too many to wait for")
                session = peer.session(batch, longest)
                session.start(prompt)
                opened[name] = session
            except (RuntimeError, ValueError, MemoryError) as problem:
                case = f"batch {batch}, {prompt.shape[1]} tokens"
                self.failures.append({"peer": name, "case": case, "reason": str(problem)[:300]})
        try:
            yield opened
        finally:
            for session in opened.values():
                session.close()

    def spreads(
        self,
        work: Mapping[Name, Work],
        value: Callable[[float], float],
        rounds: int,
        discarded: int,
    ) -> dict[Name, Spread]:
        """Measure work in turns, and make figures of its seconds."""
        blocks = interleaved(work, rounds, finisher(self.device), discarded)
        return {name: Spread.of_blocks(found, value) for name, found in blocks.items()}


def prefill(bench: Bench, tokens: int, quantity: Quantity = results.PREFILL) -> list[Row]:
    """Take in a prompt, one row; tokens a second, or ms if the quantity is the first token."""
    bench.say(f"{quantity.name}: a prompt of {tokens} tokens")
    prompt = bench.ids(1, tokens)
    to_first_token = quantity is results.FIRST
    rate = bench.limits.matmul[name_of(bench.dtype)].median
    seconds = costs.prompt_operations(bench.config, tokens) / rate

    def value(seconds: float) -> float:
        return 1000 * seconds if to_first_token else tokens / seconds

    with bench.sessions(1, tokens, prompt) as sessions:
        take_in = _first_token if to_first_token else _start
        work = {name: Work(partial(take_in, s, prompt)) for name, s in sessions.items()}
        rounds = min(FEW, bench.plan.rounds) if tokens > USUAL else bench.plan.rounds
        found = bench.spreads(work, value, rounds, discarded=0)  # each has taken it in once before
    return rows_of(quantity, bench.case(1, tokens), found, value(seconds))


def _start(session: Session, prompt: Tensor) -> None:
    session.start(prompt)


def _first_token(session: Session, prompt: Tensor) -> int:
    session.start(prompt)
    return int(session.logits()[0].argmax())


def contexts(config: MistralConfig) -> dict[str, int]:
    """Tokens before those that are timed, by what they do to the window.

    >>> contexts(MistralConfig(sliding_window=512))
    {'short': 32, 'full': 512, 'wrapped': 1280}
    """
    window = window_of(config)
    return {"short": min(SHORT, window), "full": window, "wrapped": window * 5 // 2}


def decode(bench: Bench, batch: int, state: str, context: int) -> list[Row]:
    """Decode tokens one by one after a context; tokens a second over all rows."""
    bench.say(f"decode: batch {batch}, {state} window ({context} tokens)")
    found = _step_seconds(bench, batch, [context])[context]
    rates = {name: _each(spread, lambda s: batch / s) for name, spread in found.items()}
    limit = batch / _step_limit(bench, batch, context)
    return rows_of(results.DECODE, bench.case(batch, context, state), rates, limit)


def curve(bench: Bench) -> list[Row]:
    """Milliseconds for one token of one row at texts of so many windows, all lengths in turns."""
    contexts = {n * window_of(bench.config): n for n in bench.plan.windows}
    bench.say(f"one token: texts of {', '.join(map(str, contexts))} tokens, in turns")
    rows: list[Row] = []
    for context, found in _step_seconds(bench, 1, list(contexts)).items():
        times = {name: _each(spread, lambda s: 1000 * s) for name, spread in found.items()}
        case = bench.case(1, context, f"{contexts[context]} windows")
        rows += rows_of(results.PER_TOKEN, case, times, 1000 * _step_limit(bench, 1, context))
    return rows


def _step_seconds(
    bench: Bench, batch: int, contexts: Sequence[int]
) -> dict[int, dict[str, Spread]]:
    """Seconds for a step, by the tokens before it and by peer; all of them in turns."""
    plan = bench.plan
    new = bench.ids(batch, plan.steps + plan.warm_up, seed=1).T
    work: dict[tuple[str, int], Work] = {}
    with ExitStack() as opened:
        for context in contexts:
            prompt = bench.ids(batch, context)
            sessions = opened.enter_context(bench.sessions(batch, context + plan.decoded, prompt))
            for name, session in sessions.items():
                work[name, context] = Work(
                    partial(_steps, session, new[plan.warm_up :]),
                    partial(_steps, session, new[: plan.warm_up]),
                )
        found = bench.spreads(work, lambda s: s / plan.steps, plan.rounds, DISCARDED)
    return {
        context: {name: spread for (name, at), spread in found.items() if at == context}
        for context in contexts
    }


def _steps(session: Session, columns: Tensor) -> None:
    for ids in columns:
        session.step(ids)


def _step_limit(bench: Bench, batch: int, context: int) -> float:
    least = costs.step_bytes(bench.config, batch, context, bench.dtype)
    return least / bench.limits.read.median


def _each(spread: Spread, value: Callable[[float], float]) -> Spread:
    """The spread of another function of the same seconds; falling ones swap least and greatest."""
    low, high = sorted((value(spread.low), value(spread.high)))
    return Spread(value(spread.median), low, high, spread.blocks, spread.others)


def cache_held(bench: Bench) -> list[Row]:
    """Bytes held right after a prompt of four windows, and after some tokens more."""
    tokens = LONG_PROMPT * window_of(bench.config)
    bench.say(f"cache held: a prompt of {tokens} tokens")
    prompt, new = bench.ids(1, tokens), bench.ids(1, bench.plan.steps, seed=1).T
    least = costs.cache_bytes(bench.config, tokens, bench.dtype)
    rows: list[Row] = []
    with bench.sessions(1, tokens + bench.plan.steps, prompt) as sessions:
        for state in ("after the prompt", f"{bench.plan.steps} tokens later"):
            held = {name: Spread.of([session.cache_bytes()]) for name, session in sessions.items()}
            rows += rows_of(results.CACHE, bench.case(1, tokens, state), held, least)
            for session in sessions.values():
                _steps(session, new)
    return rows
