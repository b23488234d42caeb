"""Exercises of lesson 14: the full 7B.

The truth is `bench.costs` for bytes, `viz.machines` for limits, and `quantization` for 8 bits. The
open exercise is in `lesson_14_suspects.py`.
"""

import torch

from mistral_edu.bench import costs
from mistral_edu.config import MistralConfig
from mistral_edu.course.checking import by_cases
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.course.lesson_14_suspects import BOTTLENECK
from mistral_edu.quantization import quantize_weight
from mistral_edu.viz.machines import Machine
from mistral_edu.viz.workload import Work


def step_bytes(config, batch, context, size):
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
    return step_bytes(config, batch, context, size) + size * table


def weights_for_each_row(config, batch, context, size):
    return batch * step_bytes(config, 1, context, size)


def without_a_window(config, batch, context, size):
    return step_bytes({**config, "sliding_window": context}, batch, context, size)


def a_cache_for_all_heads(config, batch, context, size):
    shared, heads = config["num_key_value_heads"], config["num_attention_heads"]
    alone = step_bytes(config, 0, context, size)
    return alone + (step_bytes(config, batch, context, size) - alone) * heads // shared


def library_step_bytes(config, batch, context, size):
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
    task="""Write `step_bytes(config, batch, context, size)`: how many bytes must be read to decode
one token for each of `batch` rows, if every row has seen `context` tokens and a number takes `size`
bytes. `config` is a dict with the names of a `config.json`:

- `hidden_size`, `intermediate_size`, `vocab_size`, `num_hidden_layers`;
- `num_attention_heads`, `num_key_value_heads`, `head_dim`, `sliding_window`.

A layer holds q, k, v and o, three feed-forward matrices and two norms. After the layers come a norm
and the head. Of the embedding table a step reads a single row: leave it out.""",
    stub='''def step_bytes(config, batch, context, size):
    """Bytes read for one token of each row."""
    ...''',
    check=by_cases(
        [(SMALL, 1, 3, 4), (SMALL, 1, 9, 4), (SMALL, 3, 5, 2), (SEVEN_B, 8, 4096, 2)],
        truth=library_step_bytes,
    ),
    hints=(
        "Two parts: the weights, read once for all rows, and a cache for each row.",
        "q and o are `hidden_size` × (heads · `head_dim`), k and v have the shared heads only; the "
        "three of the feed-forward are `hidden_size` × `intermediate_size`; a norm is "
        "`hidden_size` numbers.",
        "A row's cache: 2 (key and value) · layers · shared heads · `head_dim` · "
        "min(context, window) numbers.",
    ),
    solution=step_bytes,
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
    ),
)


def tokens_per_second(bytes_read, operations, batch, read, multiply):
    return batch / max(bytes_read / read, operations / multiply)


def library_limit(bytes_read, operations, batch, read, multiply):
    machine = Machine("", read, {"float32": multiply})
    return machine.tokens_per_second("float32", Work("", batch, bytes_read, operations))


LIMIT = Exercise(
    id="14.limit",
    title="The limit",
    difficulty=1,
    minutes=5,
    task="""Write `tokens_per_second(bytes_read, operations, batch, read, multiply)`: the most
tokens a second, over all rows, of a step that reads `bytes_read` bytes and does `operations`
operations for a batch of `batch` rows. The machine reads `read` bytes and does `multiply`
operations a second, and it does both at the same time.""",
    stub='''def tokens_per_second(bytes_read, operations, batch, read, multiply):
    """The most tokens a second, over all rows."""
    ...''',
    check=by_cases(
        [
            (100, 100, 1, 50, 200),
            (100, 800, 8, 50, 200),
            (100, 100, 1, 200, 50),
            (14.2e9, 14.2e9, 1, 24.4e9, 1940e9),
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
            lambda bytes_read, operations, batch, read, multiply: batch * read / bytes_read,
            "reading alone; a large batch is bound by multiplying",
            says="reading alone",
        ),
        Mutant(
            lambda bytes_read, operations, batch, read, multiply: batch * multiply / operations,
            "multiplying alone: the mistake of section 2",
            says="multiplying alone",
        ),
        Mutant(
            lambda bytes_read, operations, batch, read, multiply: (
                batch / (bytes_read / read + operations / multiply)
            ),
            "the two times are added, but the machine does both at once",
            says="added",
        ),
        Mutant(
            lambda bytes_read, operations, batch, read, multiply: (
                batch / min(bytes_read / read, operations / multiply)
            ),
            "the faster of the two decides; the step must wait for the slower",
            says="wait for the slower",
        ),
        Mutant(
            lambda bytes_read, operations, batch, read, multiply: (
                1 / max(bytes_read / read, operations / multiply)
            ),
            "these are steps a second; each step makes a token for every row",
            says="steps a second",
        ),
    ),
)


def quantize(weight):
    largest = weight.abs().amax(dim=1)
    steps = torch.where(largest > 0, largest / 127, 1.0)
    codes = (weight / steps[:, None]).round().to(torch.int8)
    return codes, steps


def one_step_for_all(weight):
    step = weight.abs().max() / 127
    return (weight / step).round().to(torch.int8), step.expand(len(weight))


def a_step_for_each_column(weight):
    steps = (weight.abs().amax(dim=0) / 127).clamp(min=1e-30)
    return (weight / steps).round().to(torch.int8), steps


def without_a_guard(weight):
    steps = weight.abs().amax(dim=1) / 127
    return (weight / steps[:, None]).round().nan_to_num().to(torch.int8), steps


def truncated(weight):
    _, steps = quantize(weight)
    return (weight / steps[:, None]).to(torch.int8), steps


def what_it_means(answer, weight):
    """Codes and the weights they stand for; a row of zeros may have any step above zero."""
    codes, steps = answer(weight)
    steps = torch.as_tensor(steps).reshape(-1)
    return {
        "type": str(codes.dtype).removeprefix("torch."),
        "codes": codes,
        "weights": codes.float() * steps[:, None],
        "every step is above zero": bool((steps > 0).all()),
    }


INT8 = Exercise(
    id="14.int8",
    title="Eight bits a weight",
    difficulty=2,
    minutes=9,
    task="""Write `quantize(weight)` for a matrix of shape (out, in): return `codes`, an int8 tensor
of the same shape with values from −127 to 127, and `steps`, one for each row, so that
`codes * steps[:, None]` is as near to `weight` as a step allows. A row of zeros occurs, and no step
may be zero.""",
    stub='''def quantize(weight):
    """Codes (out, in) in int8, and steps (out,)."""
    ...''',
    check=by_cases(
        [
            (torch.tensor([[1.27, -0.026, 0.014]]),),
            (torch.tensor([[1.27, -0.026, 0.014], [0.0, -254.0, 5.5]]),),
            (torch.tensor([[0.0, 0.0], [0.3, -0.1]]),),
            (torch.tensor([[0.9, -0.2], [0.01, 0.03], [-5.0, 4.2]]),),
        ],
        truth=quantize_weight,
        run=what_it_means,
    ),
    hints=(
        "The largest number of a row, by its absolute value, becomes 127. What is the step then?",
        "`weight.abs().amax(dim=1)` has a number for each row. Divide, `round()`, then `.to("
        "torch.int8)`; without rounding, the conversion cuts off.",
        "A row of zeros divides 0 by 0. Give it any step above zero: `steps.clamp(min=1e-30)`.",
    ),
    solution=quantize,
    mutants=(
        Mutant(
            one_step_for_all,
            "one step for the whole matrix: a large row makes the small ones coarse",
            says="whole matrix",
        ),
        Mutant(
            a_step_for_each_column,
            "a step for each column; it could not be taken out of a row's sum",
            says="each column",
        ),
        Mutant(
            without_a_guard,
            "a row of zeros gets the step 0, and 0 / 0 is no number",
            says="row of zeros",
        ),
        Mutant(
            truncated,
            "it cuts off instead of rounding, which doubles the largest error",
            says="cuts off",
        ),
    ),
)

EXERCISES = (BYTES, LIMIT, INT8, BOTTLENECK)
