"""A step that chooses: feed a token, score what may follow, choose it by the rules.

    newest → step → scores → rules → newest        one thing to record, and to replay

Nothing in it comes from Python. The place that a random number points to, which tokens a row has
seen, how many were made: all of it lies in tensors at fixed addresses, which a recording reads and
writes. Someone fetches the tokens now and then.

Lesson: 14_the_full_7b.

Conventions
    The rules of `sampling`, in the order of `generation.steps`, with the same random numbers: the
    same seed gives the same text.
    Rules are recorded with the step. For other rules it is recorded anew.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mistral_edu import engine_graph, sampling
from mistral_edu.generation import allowed
from mistral_edu.generation_config import GenerationConfig
from mistral_edu.generation_request import restrain


class ChoosingStep:
    """Continues each row by a token of its own choice, `ahead` times before someone must fetch.

    Args:
        step: (B,) ids in, (B, V) scores out; the same operations whenever it is called.
        rules: how to choose, as in `GenerationRequest.rules`.
        shape: B and V.
        ahead: how many tokens of each row are kept.
        device: of the scores.

    >>> doubled = lambda ids: torch.eye(8)[2 * ids % 8]
    >>> step = ChoosingStep(doubled, GenerationConfig(eos_token_id=()), shape=(1, 8), ahead=3,
    ...                     device=torch.device("cpu"))
    >>> step.begin(torch.eye(8)[[3]])
    >>> step(), step(), step.made(3)[0]
    (None, None, tensor([[3],
            [6],
            [4]]))
    """

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        rules: GenerationConfig,
        shape: tuple[int, int],
        ahead: int,
        device: torch.device,
    ) -> None:
        self.rules, self.ahead, self._step = rules, ahead, step
        rows, _ = shape
        self._ends = torch.tensor(rules.eos_token_id, dtype=torch.long, device=device)
        self._newest = torch.zeros(rows, dtype=torch.long, device=device)
        self._number = torch.zeros(1, dtype=torch.long, device=device)  # of tokens, in this text
        self._places = torch.zeros(ahead, rows, 1, dtype=sampling.exact(device), device=device)
        self._seen: Tensor | None = None
        if rules.repetition_penalty != 1:
            self._seen = torch.zeros(shape, dtype=torch.bool, device=device)
        self._tokens = torch.zeros(ahead, rows, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(ahead, rows, dtype=torch.float32, device=device)
        self._sound = torch.zeros(ahead, rows, dtype=torch.bool, device=device)
        self._continue: Callable[[], object] = self._once

    def record(self) -> None:
        """Record it on a GPU: what it and its `step` leave behind then is for the caller to reset.

        It takes a few runs, and every later one replays them.
        """
        self._continue, _ = engine_graph.record(self._once, self._newest.device)

    def draw(self, random: list[torch.Generator]) -> None:
        """Send random places for the next `ahead` tokens to the device; before `ahead` are made."""
        if self.rules.do_sample:
            self._places.copy_(torch.stack([sampling.places(random) for _ in range(self.ahead)]))

    def begin(self, scores: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None = None) -> None:
        """Choose the first token of new texts.

        Args:
            scores: after the prompts.
            seen: which tokens the prompts hold; None for none.
        """
        self._number.zero_()
        if self._seen is not None:
            self._seen.zero_() if seen is None else self._seen.copy_(seen)
        self._choose(scores)

    def __call__(self) -> None:
        """Feed each row's newest token, and choose the next."""
        self._continue()

    def made(self, many: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, their log-probabilities, and whether their scores were sound: (many, B) each.

        The first `many` since the last multiple of `ahead`, on the CPU: here the device is waited
        for.
        """
        kept = (self._tokens, self._logprobs, self._sound)
        tokens, logprobs, sound = (each[:many].to("cpu", copy=True) for each in kept)
        return tokens, logprobs, sound

    def _once(self) -> Tensor:
        self._choose(self._step(self._newest))
        return self._newest

    def _choose(self, scores: Float[Tensor, "B V"]) -> None:
        slot = self._number % self.ahead
        ruled = self._ruled(scores)
        if self.rules.do_sample:
            place = self._places.index_select(0, slot)[0]
            tokens = sampling.token_at(allowed(ruled, self.rules), place)
        else:
            tokens = ruled.argmax(dim=-1)
        if self._seen is not None:
            self._seen.scatter_(1, tokens[:, None], True)
        self._tokens.index_copy_(0, slot, tokens[None])
        self._logprobs.index_copy_(0, slot, sampling.log_probability(scores, tokens)[None])
        self._sound.index_copy_(0, slot, sampling.are_sound(scores)[None])
        self._newest.copy_(tokens)
        self._number += 1

    def _ruled(self, scores: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        least = self.rules.min_new_tokens
        free = restrain(scores, self.rules, self._ends, least, self._seen)
        if not least:
            return free
        held = restrain(scores, self.rules, self._ends, 0, self._seen)
        return torch.where(self._number < least, held, free)
