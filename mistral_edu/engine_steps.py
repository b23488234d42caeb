"""The loop of generation, for a device that is not to be waited for.

    choose N tokens in a row without looking at one; then fetch all N and see which rows have ended

A row that has ended goes on until somebody looks. What it makes up meanwhile is thrown away, and
no other row sees it: rows share nothing but the weights.

Lesson: 14_the_full_7b.

Conventions
    The same `Step`s as `generation.steps`, from the same rules and the same random numbers: the
    same seed gives the same text.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mistral_edu import sampling, stopping
from mistral_edu.generation import Step, allowed
from mistral_edu.generation_request import GenerationRequest, restrain
from mistral_edu.stopping import StopWatch

if TYPE_CHECKING:
    from mistral_edu.engine import Engine


class Chooser:
    """Chooses tokens by a request's rules, on the device that the scores are on.

    Args:
        request: the rules.
        vocab_size: V.
        ahead: for how many steps random numbers are sent to the device at once.
    """

    def __init__(self, request: GenerationRequest, vocab_size: int, ahead: int) -> None:
        self.request, self.ahead = request, ahead
        self.random = sampling.generators(request.config.seed, len(request.ids))
        self.seen = request.seen_tokens(vocab_size)
        self.places: list[Tensor] = []

    def __call__(self, logits: Float[Tensor, "B V"], made: int) -> Int[Tensor, "B"]:
        """The next token of each row, after `made` of them."""
        scores = restrain(logits, self.request, made, self.seen)
        if self.request.config.do_sample:
            tokens = sampling.token_at(allowed(scores, self.request.config), self._place(logits))
        else:
            tokens = scores.argmax(dim=-1)
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        return tokens

    def _place(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B 1"]:
        if not self.places:
            drawn = torch.stack([sampling.places(self.random) for _ in range(self.ahead)])
            exact = torch.float32 if logits.device.type == "mps" else torch.float64
            self.places = list(drawn.to(logits.device, exact).flip(0))
        return self.places.pop()


def steps(engine: "Engine", request: GenerationRequest, look_every: int = 1) -> Iterator[Step]:
    """Continue each row of a request; so many steps are made before anyone looks.

    Raises:
        DamagedScoresError: for scores that are not numbers.
        RuntimeError: if the engine was used for something else meanwhile.
    """
    longest = request.config.max_new_tokens
    if not longest:
        return
    choose = Chooser(request, engine.config.vocab_size, min(look_every, longest))
    watches = stopping.watch_rows(request)
    endings = torch.full((len(request.ids),), stopping.RUNNING)
    scores = engine.prefill(request.ids, request.mask)
    moves = engine.moves
    made: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(longest):
        tokens = choose(scores, number)
        sound = scores.amax(dim=-1).isfinite()  # NaN and +inf both survive a maximum
        made.append((tokens, sampling.log_probability(scores, tokens), sound))
        if len(made) == look_every or number + 1 == longest:
            for step in _fetched(made, endings, request, watches):
                yield step
            endings, made = step.endings, []
            if not (endings == stopping.RUNNING).any():
                return
        if number + 1 < longest:
            _require_same_texts(moves, engine.moves)
            scores = engine.step(tokens)
            moves = engine.moves


def _fetched(
    made: list[tuple[Tensor, Tensor, Tensor]],
    endings: Int[Tensor, "B"],
    request: GenerationRequest,
    watches: list[StopWatch],
) -> Iterator[Step]:
    """What the device has made, step by step until all rows have ended; the one wait for it."""
    columns = (torch.stack(column).cpu() for column in zip(*made, strict=True))
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
