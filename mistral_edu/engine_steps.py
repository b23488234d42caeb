"""The loop of generation, for a device that is not to be waited for.

    N steps that choose their own tokens; then fetch all N, and see which rows have ended

A row that has ended goes on until somebody looks. What it makes up meanwhile is thrown away, and
no other row sees it: rows share nothing but the weights.

Lesson: 14_the_full_7b.

Conventions
    The same `Step`s as `generation.steps`, from the same rules and the same random numbers: the
    same seed gives the same text.
    Between two looks the engine is this text's alone. While a look is read, others may take it:
    that is noticed, and then this text cannot go on.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from mistral_edu import sampling, stopping
from mistral_edu.generation import Step
from mistral_edu.generation_request import GenerationRequest
from mistral_edu.stopping import StopWatch

if TYPE_CHECKING:
    from mistral_edu.engine import Engine


def steps(engine: "Engine", request: GenerationRequest, look_every: int = 1) -> Iterator[Step]:
    """Continue each row of a request; so many steps are made before anyone looks.

    Raises:
        DamagedScoresError: for scores that are not numbers.
        RuntimeError: if the engine was used for something else meanwhile, or by another thread.
    """
    longest = request.config.max_new_tokens
    if not longest:
        return
    random = sampling.generators(request.config.seed, len(request.ids))
    watches = stopping.watch_rows(request)
    endings = torch.full((len(request.ids),), stopping.RUNNING)
    with engine.moves.alone():
        step = engine.choosing_step(request.rules, look_every)
        step.draw(random)
        scores = engine.prefill(request.ids, request.mask)
        step.begin(scores, request.seen_tokens(engine.config.vocab_size))
        moves = engine.moves.count
    for first in range(0, longest, look_every):
        many = min(look_every, longest - first)
        with engine.moves.alone():
            _require_same_texts(moves, engine.moves.count)
            if first:
                step.draw(random)
            for _ in range(max(first, 1), first + many):
                with engine.advancing():
                    step()
            columns = step.made(many)
            moves = engine.moves.count
        for made in _fetched(columns, endings, request, watches):
            yield made
        endings = made.endings
        if not (endings == stopping.RUNNING).any():
            return


def _fetched(
    columns: tuple[Tensor, Tensor, Tensor],
    endings: Int[Tensor, "B"],
    request: GenerationRequest,
    watches: list[StopWatch],
) -> Iterator[Step]:
    """What was made, step by step until all rows have ended."""
    for tokens, logprobs, sound in zip(*columns, strict=True):
        running = endings == stopping.RUNNING
        sampling.refuse_damage(sound | ~running)
        tokens = tokens.masked_fill(~running, request.pad)
        endings = stopping.endings_after(tokens, endings, request.ends, watches)
        yield Step(tokens, logprobs.masked_fill(~running, 0.0), endings)
        if not (endings == stopping.RUNNING).any():
            return


def _require_same_texts(moves: int, now: int) -> None:
    if now != moves:
        raise RuntimeError(
            "the engine was used for something else before these texts were read to their end: "
            "finish one first, or make a second engine"
        )
