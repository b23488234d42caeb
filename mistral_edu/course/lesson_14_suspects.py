"""The last exercise of lesson 14: workloads that tell five suspects apart.

A model is slower than it should be, and one of five things takes the time. Each grows with other
properties of the work, so a few well-chosen workloads tell which it is.
"""

import torch

from mistral_edu.bench.costs import cache_bytes
from mistral_edu.config import MistralConfig
from mistral_edu.course.checking import Claim, by_claims
from mistral_edu.course.exercise import Exercise, Mutant

CLEAR = 2.0  # times slower or faster than another suspect would have it
MOST = 3
WEIGHTS, CACHE, ARITHMETIC = "reading the weights", "reading the cache", "arithmetic"
STARTING, CHOOSING = "starting operations", "choosing tokens"


def seconds(workload):
    """How long a pass takes if one suspect takes all the time, up to a factor for each suspect.

    >>> seconds((2, 3, 4096, 8))["arithmetic"], seconds((2, 3, 4096, 8))["reading the weights"]
    (6, 8)
    """
    batch, tokens, context, bits = workload
    seven_b = MistralConfig.mistral_7b_v0_1()
    return {
        WEIGHTS: bits,
        CACHE: batch * cache_bytes(seven_b, context, torch.bfloat16),
        ARITHMETIC: batch * tokens,
        STARTING: 1,
        CHOOSING: batch,
    }


def told_apart(workloads, one, other):
    """Whether some workload, compared with the first, is clearly different for two suspects."""
    first, *rest = map(seconds, workloads)
    for found in rest:
        between = (found[one] / first[one]) / (found[other] / first[other])
        if max(between, 1 / between) >= CLEAR:
            return True
    return False


def named(workloads, suspect):
    """Whether a suspect is told from all others."""
    others = [name for name in seconds(workloads[0]) if name != suspect]
    return all(told_apart(workloads, suspect, other) for other in others)


def tells(suspect):
    """The claim that a suspect is told from all others."""
    text = f"it tells *{suspect}* from the other four"
    return Claim(text, lambda workloads: named(workloads, suspect))


def is_a_plan(workloads):
    """Whether these are two or three workloads that the 7B can be given."""
    fits = all(
        batch in range(1, 65)
        and tokens in range(1, 4097)
        and context in range(1, 32769)
        and bits in (4, 8, 16)
        for batch, tokens, context, bits in workloads
    )
    return fits and 2 <= len(workloads) <= MOST


def workloads():
    ordinary = (1, 1, 64, 16)
    everything_changed = (4, 8, 4096, 4)
    return [ordinary, everything_changed]


BOTTLENECK = Exercise(
    id="14.bottleneck",
    title="Five suspects",
    difficulty=3,
    minutes=15,
    open_ended=True,
    task="""The 7B is slow on some machine, and one of five suspects takes nearly all the time:

- *reading the weights*: grows with their bits;
- *reading the cache*: grows with the texts, and with the tokens seen before, up to the window of
  4,096;
- *arithmetic*: grows with the tokens that pass through, over all texts;
- *starting operations*: the same for every pass;
- *choosing tokens*: outside the model, once for each text.

You may time two or three workloads. Each is `(batch, tokens, context, bits)`: texts at once (1 to
64), tokens of each that pass through (1 in decoding, up to 4,096 of a prompt), tokens seen before
(1 to 32,768), bits of a weight (4, 8 or 16). Only times relative to your *first* workload count.
Choose so that any two suspects differ at least twofold in one of them. Many answers are right.""",
    stub="workloads = ...  # for example: [(1, 1, 128, 16), (8, 1, 128, 16)]",
    check=by_claims(
        (
            Claim("there are two or three workloads, each within the limits", is_a_plan),
            *map(tells, (WEIGHTS, CACHE, ARITHMETIC, STARTING, CHOOSING)),
        ),
        ask=(
            "What if two suspects take half of the time each: what would your ratios show?",
            "Changing everything at once needs the fewest runs. When is one thing at a time wiser?",
        ),
    ),
    hints=(
        "Write down what each suspect's time becomes in your second workload, as a multiple of the "
        "first. No two multiples may be near each other.",
        "Weights and starting differ only when the bits change; arithmetic and choosing only when "
        "`tokens` does; the cache needs another context, below the window.",
        "From (1, 1, 64, 16): what are the five multiples for (4, 8, 4096, 4)?",
    ),
    solution=workloads,
    mutants=(
        Mutant(
            lambda: [(1, 1, 128, 16), (8, 1, 128, 16)],
            "only the batch changes: three suspects grow with it alike, and two not at all",
            says="only the batch changes",
        ),
        Mutant(
            lambda: [(1, 1, 128, 16), (1, 1, 4096, 16)],
            "bits and passing tokens never change: it accuses the cache or nobody",
            says="the cache or nobody",
        ),
        Mutant(
            lambda: [(1, 1, 4096, 16), (4, 16, 32768, 4)],
            "the cache grows as choosing does: the context stays, or it grows beyond the window, "
            "where a ring reads no more than before",
            says="beyond the window",
        ),
        Mutant(
            lambda: [(1, 1, 64, 16), (4, 8, 4096, 16)],
            "the bits never change, so reading the weights looks like starting operations",
            says="bits never change",
        ),
        Mutant(
            lambda: [(1, 1, 64, 16), (64, 1, 4096, 4)],
            "a text never has more than one token to pass: arithmetic looks like choosing",
            says="looks like choosing",
        ),
    ),
)
