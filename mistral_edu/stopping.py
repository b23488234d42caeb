"""Stopping: when a row has said what it had to say.

    an eos id          or  new ids that hold a stop sequence  or  new text that holds a stop string

Source: `transformers`' stopping criteria; what is particular here stands under Conventions.
Lesson: 12_generation_and_chat.

Conventions
    Only what was generated is searched: a stop string in the prompt, or begun there, ends nothing.
    Text may span tokens and a token may span texts; the token that completes a stop string is
    still part of the row, as an eos id is. `min_new_tokens` holds back eos ids only.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from mistral_edu.generation_request import GenerationRequest

# How a row ended, as the codes that the loops keep: FINISH_REASONS[code].
FINISH_REASONS = ("length", "eos", "stop")
RUNNING, EOS, STOP = 0, 1, 2  # a row still running when the tokens run out ended by "length"

# The prompt's last ids decide whether the first new piece keeps its leading space, and may hold
# the first bytes of a character; more of it the decoder need not know.
PROMPT_TAIL = 16


@runtime_checkable
class Decoder(Protocol):
    """Turns ids into text one at a time, as `MistralTokenizer.decoder()` does."""

    def add(self, index: int) -> str: ...


class StopWatch:
    """Watches the new ids of one row for stop sequences, and their text for stop strings.

    Args:
        sequences: sequences of ids.
        strings: texts, none of them empty.
        decoder: turns ids into text; it has read the prompt. Unused without `strings`.

    >>> watch = StopWatch(sequences=[[5, 6]])
    >>> [watch.add(token) for token in (5, 5, 6)]
    [False, False, True]
    """

    def __init__(
        self,
        sequences: Sequence[Sequence[int]] = (),
        strings: Sequence[str] = (),
        decoder: Decoder | None = None,
    ) -> None:
        self.sequences = [list(sequence) for sequence in sequences]
        self.strings, self.decoder = strings, decoder
        # Only as much is kept as a match can still need, so that long texts cost no memory.
        self.recent: deque[int] = deque(maxlen=max(map(len, self.sequences), default=0))
        self.kept = max(map(len, strings), default=1) - 1
        self.text = ""

    def add(self, token: int) -> bool:
        """Take one more id; return whether it completes a stop."""
        self.recent.append(token)
        recent = list(self.recent)
        if any(recent[-len(sequence) :] == sequence for sequence in self.sequences):
            return True
        if self.decoder is None:
            return False
        text = self.text + self.decoder.add(token)
        self.text = text[max(0, len(text) - self.kept) :]
        return any(string in text for string in self.strings)


def watch(request: GenerationRequest, row: int) -> StopWatch:
    """A watch over one row, set for what follows its prompt."""
    config, decoder = request.config, None
    if config.strings:
        decoder = request.tokenizer.decoder()
        for token in request.ids[row, request.mask[row]][-PROMPT_TAIL:].tolist():
            decoder.add(token)
    return StopWatch(config.stop_sequences, config.strings, decoder)


def watch_rows(request: GenerationRequest) -> list[StopWatch]:
    """A watch over each row, or none at all if only eos ids end a row."""
    if not request.has_stops:
        return []
    return [watch(request, row) for row in range(len(request.ids))]


def holds_stop(request: GenerationRequest, row: int, ids: Sequence[int]) -> bool:
    """Whether new ids of a row hold a stop; for beams, which change places too often to watch."""
    one = watch(request, row)
    return any(one.add(token) for token in ids)


def endings_after(
    tokens: Int[Tensor, "B"],
    endings: Int[Tensor, "B"],
    ends: Int[Tensor, "N"],
    watches: Sequence[StopWatch],
) -> Int[Tensor, "B"]:
    """How each row has ended once its next token is known; rows that had ended stay as they were.

    >>> endings_after(torch.tensor([2, 2, 7]), torch.tensor([RUNNING, STOP, RUNNING]),
    ...               ends=torch.tensor([2]), watches=[])
    tensor([1, 2, 0])
    """
    now = torch.where(torch.isin(tokens, ends), EOS, RUNNING)
    for row, one in enumerate(watches):
        if endings[row] == RUNNING and one.add(int(tokens[row])) and now[row] == RUNNING:
            now[row] = STOP
    return torch.where(endings == RUNNING, now, endings)
