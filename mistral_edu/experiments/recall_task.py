"""Rows for measuring recall: a few facts at the beginning, filler, and questions everywhere after.

    filler FACT filler filler ? filler ? ? filler …        at each ? the label is the fact's token

The answer is a label only and never stands in the row, so nothing restates it: what a question
knows has come from the fact itself, however far back that is. One row asks at many distances.
Lesson: 15_long_context.

Conventions
    Ids 0 … 63 are facts, 64 … 95 filler, from 96 on one question for each fact. With F facts, fact
    k is one of the 64/F ids from k · 64/F on, so guessing is right in F cases of 64.
    The distance of a question is its position less its fact's position.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

FACTS = 64
FILLERS = 32
QUESTION = FACTS + FILLERS
NO_ANSWER = -100
ASKING = 0.5


@dataclass(frozen=True)
class Rows:
    """Rows with their answers.

    Args:
        ids: (B, T) token ids.
        answers: (B, T) the fact that a question asks for; −100 where no question is, or the fact
            has not come yet.
        distances: (B, T) tokens from the fact to the question; of no meaning without an answer.
    """

    ids: Int[Tensor, "B T"]
    answers: Int[Tensor, "B T"]
    distances: Int[Tensor, "B T"]


def vocabulary(facts: int) -> int:
    """How many ids there are with so many facts in a row.

    >>> vocabulary(4)
    100
    """
    return QUESTION + facts


def draw_rows(random: torch.Generator, rows: int, length: int, facts: int, within: int) -> Rows:
    """Draw rows in which half of the tokens are questions.

    Args:
        random: the stream to draw from.
        rows, length: B and T.
        facts: F, facts in each row; a divisor of 64.
        within: the facts stand somewhere among the first so many tokens, F … T.

    Raises:
        ValueError: for a number of facts that does not divide 64, or more than fit.

    >>> drawn = draw_rows(torch.Generator().manual_seed(0), 1, 6, facts=1, within=2)
    >>> drawn.ids.tolist(), drawn.answers.tolist()
    ([[83, 44, 82, 96, 96, 70]], [[-100, -100, -100, 44, 44, -100]])
    """
    if facts < 1 or FACTS % facts or not facts <= within <= length:
        raise ValueError(
            f"facts={facts} with within={within} and length={length}: facts must divide {FACTS} "
            "and fit within the first tokens of the row"
        )
    kinds = FACTS // facts
    told = torch.randint(kinds, (rows, facts), generator=random) + kinds * torch.arange(facts)
    places = torch.rand(rows, within, generator=random).argsort(dim=1)[:, :facts]
    asked = torch.randint(facts, (rows, length), generator=random)
    fillers = torch.randint(FACTS, QUESTION, (rows, length), generator=random)
    asking = torch.rand(rows, length, generator=random) < ASKING
    ids = fillers.where(~asking, QUESTION + asked).scatter(1, places, told)
    distances = torch.arange(length) - places.gather(1, asked)
    answered = (ids >= QUESTION) & (distances > 0)
    return Rows(ids, told.gather(1, asked).where(answered, NO_ANSWER), distances)
