"""Exercises of lesson 14: the full 7B.

The truth is `bench.costs` for bytes and `viz.machines` for limits. 8 bits are in
`lesson_14_int8.py`, the open exercise in `lesson_14_suspects.py`.
"""

import torch

from mistral_edu.bench import costs
from mistral_edu.config import MistralConfig
from mistral_edu.course.checking import by_cases
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.course.lesson_14_int8 import INT8
from mistral_edu.course.lesson_14_suspects import BOTTLENECK
from mistral_edu.viz.machines import Machine
from mistral_edu.viz.workload import Work


def bytes_read(config, batch, context, size):
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    queries = config["num_attention_heads"] * config["head_dim"]
    shared = config["num_key_value_heads"] * config["head_dim"]
    matrices = width * (2 * queries + 2 * shared + 3 * config["intermediate_size"])
    norms = 2 * width
    weights = layers * (matrices + norms) + width + config["vocab_size"] * width
    cache = 2 * layers * shared * min(context, config["sliding_window"])
    return size * (weights + batch * cache)


def with_the_table(config, batch, context, size):
    table = config["vocab_size"] * config["hidden_size"]
    return bytes_read(config, batch, context, size) + size * table


def weights_for_each_row(config, batch, context, size):
    return batch * bytes_read(config, 1, context, size)


def without_a_window(config, batch, context, size):
    return bytes_read({**config, "sliding_window": context}, batch, context, size)


def a_cache_for_all_heads(config, batch, context, size):
    shared, heads = config["num_key_value_heads"], config["num_attention_heads"]
    alone = bytes_read(config, 0, context, size)
    return alone + (bytes_read(config, batch, context, size) - alone) * heads // shared


def one_token_more(config, batch, context, size):
    return bytes_read(config, batch, context + 1, size)


def library_bytes(config, batch, context, size):
    dtype = torch.float32 if size == 4 else torch.bfloat16
    return costs.step_bytes(MistralConfig(**config), batch, context, dtype)


SMALL = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "sliding_window": 6,
}
SEVEN_B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "sliding_window": 4096,
}

BYTES = Exercise(
    id="14.bytes",
    title="What a step reads",
    difficulty=2,
    minutes=10,
    task="""Write `bytes_read(config, batch, context, size)`: how many bytes must be read to decode
one token for each of `batch` rows, if every row has seen `context` tokens (the one it is at
included) and a number takes `size` bytes. `config` is a dict with the names of a `config.json`:

- `hidden_size`, `intermediate_size`, `vocab_size`, `num_hidden_layers`;
- `num_attention_heads`, `num_key_value_heads`, `head_dim`, `sliding_window`.

A layer holds q, k, v and o, three feed-forward matrices and two norms. After the layers come a norm
and the head. Of the embedding table a step reads a single row: leave it out.""",
    stub='''def bytes_read(config, batch, context, size):
    """Bytes read for one token of each row."""
    ...''',
    check=by_cases(
        [(SMALL, 1, 3, 4), (SMALL, 1, 9, 4), (SMALL, 3, 5, 2), (SEVEN_B, 8, 4096, 2)],
        truth=library_bytes,
    ),
    hints=(
        "Two parts: the weights, read once for all rows, and a cache for each row.",
        "q and o are `hidden_size` × (heads · `head_dim`), k and v have the shared heads only; the "
        "three of the feed-forward are `hidden_size` × `intermediate_size`; a norm is "
        "`hidden_size` numbers.",
        "A row's cache: 2 (key and value) · layers · shared heads · `head_dim` · "
        "min(context, window) numbers.",
    ),
    solution=bytes_read,
    mutants=(
        Mutant(
            with_the_table,
            "the whole embedding table is counted; a step looks up one row of it",
            says="one row of it",
        ),
        Mutant(
            weights_for_each_row,
            "the weights are read anew for every row; a batch shares one reading",
            says="shares one reading",
        ),
        Mutant(
            without_a_window,
            "the cache grows with the context for ever; a ring holds `sliding_window` tokens",
            says="grows with the context",
        ),
        Mutant(
            a_cache_for_all_heads,
            "every query head has a key of its own; they share the key/value heads",
            says="share the key/value heads",
        ),
        Mutant(
            one_token_more,
            "the token at hand is counted twice; `context` includes it",
            says="counted twice",
        ),
    ),
)


def tokens_per_second(step_bytes, operations, batch, read, multiply):
    return batch / max(step_bytes / read, operations / multiply)


def library_limit(step_bytes, operations, batch, read, multiply):
    machine = Machine("", read, {"float32": multiply})
    return machine.tokens_per_second("float32", Work("", batch, step_bytes, operations))


LIMIT = Exercise(
    id="14.limit",
    title="The limit",
    difficulty=1,
    minutes=5,
    task="""Write `tokens_per_second(step_bytes, operations, batch, read, multiply)`: the most
tokens a second, over all rows, of a step that reads `step_bytes` bytes and does `operations`
operations for a batch of `batch` rows. The machine reads `read` bytes and does `multiply`
operations a second, and it does both at the same time.""",
    stub='''def tokens_per_second(step_bytes, operations, batch, read, multiply):
    """The most tokens a second, over all rows."""
    ...''',
    check=by_cases(
        [
            (100, 100, 1, 50, 200),
            (100, 800, 8, 50, 200),
            (100, 100, 1, 200, 50),
            (14_200_000_000, 14_200_000_000, 1, 24.4e9, 1940e9),
        ],
        truth=library_limit,
    ),
    hints=(
        "How many seconds does the reading take? How many the multiplying?",
        "Both run at the same time: the step has ended when the slower one has.",
        "`batch` tokens come out of every step: divide `batch` by the larger number of seconds.",
    ),
    solution=tokens_per_second,
    mutants=(
        Mutant(
            lambda step_bytes, operations, batch, read, multiply: batch * read / step_bytes,
            "reading alone; a large batch is bound by multiplying",
            says="reading alone",
        ),
        Mutant(
            lambda step_bytes, operations, batch, read, multiply: batch * multiply / operations,
            "multiplying alone: the mistake of section 2",
            says="multiplying alone",
        ),
        Mutant(
            lambda step_bytes, operations, batch, read, multiply: (
                batch / (step_bytes / read + operations / multiply)
            ),
            "the two times are added, but the machine does both at once",
            says="added",
        ),
        Mutant(
            lambda step_bytes, operations, batch, read, multiply: (
                batch / min(step_bytes / read, operations / multiply)
            ),
            "the faster of the two decides; the step must wait for the slower",
            says="wait for the slower",
        ),
        Mutant(
            lambda step_bytes, operations, batch, read, multiply: (
                1 / max(step_bytes / read, operations / multiply)
            ),
            "these are steps a second; each step makes a token for every row",
            says="steps a second",
        ),
    ),
)

EXERCISES = (BYTES, LIMIT, INT8, BOTTLENECK)
