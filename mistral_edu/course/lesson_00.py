"""Exercises of lesson 00: weights of one block, bytes of a cache, a model fitted to a machine."""

import torch

from mistral_edu.attention import GroupedQueryAttention
from mistral_edu.config import MistralConfig
from mistral_edu.course.checking import Claim, by_cases, by_claims
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.rolling_cache import RollingCache

PARAMETERS = 7_241_732_096
CACHE_BYTES_PER_TOKEN = 2 * 32 * 8 * 128 * 2
WINDOW = 4096


def attention_weights(hidden, heads, shared_heads, head_dim):
    queries = hidden * heads * head_dim
    keys = values = hidden * shared_heads * head_dim
    output = heads * head_dim * hidden
    return queries + keys + values + output


def four_squares(hidden, heads, shared_heads, head_dim):
    return 4 * hidden * hidden


def square_q_and_o(hidden, heads, shared_heads, head_dim):
    return 2 * hidden * hidden + 2 * hidden * shared_heads * head_dim


def without_output(hidden, heads, shared_heads, head_dim):
    return hidden * head_dim * (heads + 2 * shared_heads)


def weights_in_the_library(hidden, heads, shared_heads, head_dim):
    """What the real attention block holds, counted tensor by tensor."""
    sizes = {"num_attention_heads": heads, "num_key_value_heads": shared_heads}
    config = MistralConfig(hidden_size=hidden, head_dim=head_dim, **sizes)
    with torch.device("meta"):
        block = GroupedQueryAttention(config, 0)
    return sum(weight.numel() for weight in block.parameters())


WEIGHTS = Exercise(
    id="00.weights",
    title="Count the weights of one attention block",
    difficulty=1,
    minutes=5,
    task="""Write `attention_weights(hidden, heads, shared_heads, head_dim)`: how many weights one
attention block has. It holds four matrices and no biases:

- `q` turns `hidden` numbers into one query per head, each of `head_dim` numbers;
- `k` and `v` do the same, but only for the `shared_heads`;
- `o` leads from all the query heads back to `hidden`.

Beware: `heads × head_dim` need not equal `hidden`.""",
    stub='''def attention_weights(hidden, heads, shared_heads, head_dim):
    """Weights of q, k, v and o together."""
    ...''',
    check=by_cases(
        [(8, 2, 1, 4), (8, 2, 1, 6), (64, 4, 4, 16), (256, 8, 2, 32), (4096, 32, 8, 128)],
        truth=weights_in_the_library,
    ),
    hints=(
        "A matrix from m numbers to n numbers has m × n weights. What are m and n for `q`?",
        "`k` and `v` are narrower than `q`. `o` is as large as `q`, lying on its side.",
        "`hidden * heads * head_dim` for `q`, the same again for `o`; "
        "`hidden * shared_heads * head_dim` for `k`, the same again for `v`.",
    ),
    solution=attention_weights,
    mutants=(
        Mutant(four_squares, "four squares; k and v serve the shared heads", says="four squares"),
        Mutant(
            square_q_and_o,
            "q and o are squares only where heads × head_dim happens to be hidden",
            says="squares only where",
        ),
        Mutant(without_output, "the output matrix o is missing", says="o is missing"),
    ),
)


def cache_bytes(layers, heads, shared_heads, head_dim, window, tokens, batch):
    kept = tokens if window is None else min(tokens, window)
    numbers = 2 * layers * batch * shared_heads * kept * head_dim
    return 2 * numbers


def keys_only(layers, heads, shared_heads, head_dim, window, tokens, batch):
    return 2 * layers * batch * shared_heads * min(tokens, window or tokens) * head_dim


def every_query_head(layers, heads, shared_heads, head_dim, window, tokens, batch):
    return 4 * layers * batch * heads * min(tokens, window or tokens) * head_dim


def without_window(layers, heads, shared_heads, head_dim, window, tokens, batch):
    return 4 * layers * batch * shared_heads * tokens * head_dim


def bytes_in_the_library(layers, heads, shared_heads, head_dim, window, tokens, batch):
    """What a real cache reserves."""
    config = MistralConfig(
        hidden_size=heads * head_dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared_heads,
        sliding_window=window,
    )
    half = torch.bfloat16
    cache = RollingCache.allocate(config, batch, capacity=tokens, dtype=half, device="meta")
    return cache.nbytes


CACHE = Exercise(
    id="00.cache",
    title="Size a cache",
    difficulty=2,
    minutes=10,
    task="""Write `cache_bytes(layers, heads, shared_heads, head_dim, window, tokens, batch)`: how
many bytes a rolling cache takes after `tokens` tokens, in `bfloat16`, which is 2 bytes a number.

For every text of the batch, every layer keeps one key and one value for each shared head and each
token it still remembers: the last `window` tokens, or all of them when `window` is `None`.
One of the seven arguments is not needed. Which?""",
    stub='''def cache_bytes(layers, heads, shared_heads, head_dim, window, tokens, batch):
    """Bytes of keys and values, two bytes a number."""
    ...''',
    check=by_cases(
        [
            (1, 2, 1, 4, 4, 3, 1),
            (1, 2, 2, 4, 4, 4, 1),
            (2, 4, 2, 8, 4, 9, 3),
            (2, 4, 2, 8, None, 9, 3),
            (32, 32, 8, 128, 4096, 8192, 1),
        ],
        truth=bytes_in_the_library,
    ),
    hints=(
        "How many tokens are kept when 3 were seen and the window is 4? And when 9 were seen?",
        "A key is `head_dim` numbers. How many keys are there? As many values; 2 bytes a number.",
        "`kept = tokens if window is None else min(tokens, window)`; then 2 (key and value) × 2 "
        "(bytes) × layers × batch × shared_heads × kept × head_dim.",
    ),
    solution=cache_bytes,
    mutants=(
        Mutant(keys_only, "keys alone; values take as much again", says="as much again"),
        Mutant(every_query_head, "a key for each query head; they share", says="they share"),
        Mutant(
            without_window,
            "a cache that grows for ever; it keeps the last `window` tokens and no more",
            says="grows for ever",
        ),
    ),
)


def plan():
    return {
        "machine": "a gaming card with 24 GB",
        "gigabytes": 24,
        "bytes_per_weight": 2,
        "batch": 8,
        "context": 8192,
        "because": "I keep every bit of the weights and give up batches larger than eight.",
    }


def plan_that_does_not_fit():
    return {**plan(), "gigabytes": 8}


def plan_without_headroom():
    return {**plan(), "gigabytes": 16, "batch": 1}


def plan_for_an_idle_machine():
    return {**plan(), "gigabytes": 80}


def width(answer):
    return answer["bytes_per_weight"]


def share(answer):
    """Memory of a plan, weights and cache, as a part of what the machine has."""
    cache = answer["batch"] * min(answer["context"], WINDOW) * CACHE_BYTES_PER_TOKEN
    return (PARAMETERS * width(answer) + cache) / (answer["gigabytes"] * 10**9)


FIT = Exercise(
    id="00.fit",
    title="Fit Mistral-7B to a machine",
    difficulty=3,
    minutes=15,
    open_ended=True,
    task="""Choose a machine: yours, or one you would like. Then choose how Mistral-7B shall live on
it, and say what you gave up for that.

- `gigabytes`: its memory, in units of 10⁹ bytes.
- `bytes_per_weight`: 4, 2, 1 or 0.5; the last two stand for 8-bit and 4-bit weights. The cache
  takes 2 bytes a number whatever the weights take.
- `batch`: texts written at once; `context`: tokens in each, at most 131,072.

Leave a tenth of the memory free for what we did not count, and use at least a third: an idle
machine has a price, too. There is no single right answer.""",
    stub="""plan = {
    "machine": ...,
    "gigabytes": ...,
    "bytes_per_weight": ...,
    "batch": ...,
    "context": ...,
    "because": ...,
}""",
    check=by_claims(
        (
            Claim("it has the six entries of the stub", lambda a: a.keys() == plan().keys()),
            Claim("bytes_per_weight is one of the four", lambda a: width(a) in (4, 2, 1, 0.5)),
            Claim("batch is a whole number of 1 or more", lambda a: a["batch"] in range(1, 10**6)),
            Claim("context is from 1 to 131,072", lambda a: a["context"] in range(1, 131_073)),
            Claim("weights and cache fit into the machine", lambda a: share(a) <= 1),
            Claim("a tenth of the memory stays free", lambda a: share(a) <= 0.9),
            Claim("at least a third of the memory is used", lambda a: share(a) >= 1 / 3),
            Claim("because has five words or more", lambda a: len(a["because"].split()) >= 5),
        ),
        ask=(
            "What else needs memory while the model runs, that nobody has counted here?",
            "Texts become ten times longer. Which entry of your plan changes, if any?",
        ),
    ),
    hints=(
        "Begin with the weights: parameters times `bytes_per_weight`. Does that leave room?",
        "Each text adds its cache: 131,072 bytes for each token it keeps, at most 4,096 of them.",
        "24 GB: two bytes a weight is 14.5 GB; eight texts of 8,192 tokens add 8 × 0.54 GB. "
        "Together 18.8 GB, and a fifth stays free.",
    ),
    solution=plan,
    mutants=(
        Mutant(plan_that_does_not_fit, "the plan is larger than the machine", says="larger than"),
        Mutant(
            plan_without_headroom,
            "a plan that fits on paper, to the last byte; the operating system wants its share",
            says="on paper",
        ),
        Mutant(plan_for_an_idle_machine, "most of the machine is idle", says="is idle"),
    ),
)

EXERCISES = (WEIGHTS, CACHE, FIT)
