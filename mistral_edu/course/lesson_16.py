"""Exercises of lesson 16: beyond one machine.

The truth is the library's: `own_part` cuts, `rank_config` deals the heads, `sharding.sum_bytes`
counts. The open exercise is in `lesson_16_plan.py`.
"""

import torch

from mistral_edu.config import MistralConfig
from mistral_edu.course.checking import by_cases
from mistral_edu.course.exercise import Exercise, Mutant
from mistral_edu.course.lesson_16_plan import PLAN
from mistral_edu.parallel import rank_config
from mistral_edu.viz.sharding import sum_bytes
from mistral_edu.weights.rank_shards import own_part


def shard(matrix, axis, rank, ranks):
    if matrix.shape[axis] % ranks:
        raise ValueError(f"{matrix.shape[axis]} does not fall into {ranks} equal parts")
    part = matrix.shape[axis] // ranks
    return matrix.narrow(axis, rank * part, part)


def library_shard(matrix, axis, rank, ranks):
    if len({own_part(matrix, axis, each, ranks).shape for each in range(ranks)}) > 1:
        raise ValueError("parts of different size")
    return own_part(matrix, axis, rank, ranks)


def shard_any(matrix, axis, rank, ranks):
    """Cuts evenly or not: the last part is smaller."""
    return own_part(matrix, axis, rank, ranks)


def shard_interleaved(matrix, axis, rank, ranks):
    shard(matrix, axis, rank, ranks)  # refuses
    return matrix.movedim(axis, 0)[rank::ranks].movedim(0, axis)


def grid(rows, columns):
    return torch.arange(rows * columns).view(rows, columns)


SHARD = Exercise(
    id="16.shard",
    title="Your part of the matrix",
    difficulty=1,
    minutes=6,
    task="Write `shard(matrix, axis, rank, ranks)`: the part of a matrix that one rank holds. Axis "
    "0 cuts by rows, axis 1 by columns. The parts are equal runs in rank order; where that cannot "
    "be, raise a `ValueError`.",
    stub='''def shard(matrix, axis, rank, ranks):
    """Rank `rank`'s rows (axis 0) or columns (axis 1)."""
    ...''',
    check=by_cases(
        [
            (grid(2, 2), 0, 1, 2),
            (grid(2, 4), 1, 0, 2),
            (grid(4, 6), 1, 2, 3),
            (grid(4, 3), 0, 2, 4),
            (grid(3, 4), 0, 0, 2),
            (grid(2, 2), 1, 0, 1),
        ],
        truth=library_shard,
    ),
    hints=(
        "How many rows or columns does each rank get? Where does the part of rank 2 begin?",
        "`matrix.shape[axis] % ranks` tells whether the parts are equal.",
        "`matrix.narrow(axis, start, length)` is `length` rows or columns from `start` on.",
    ),
    solution=shard,
    mutants=(
        Mutant(
            shard_any,
            "it cuts what cannot be cut evenly: ranks would hold, and compute, different amounts",
            says="cannot be cut evenly",
        ),
        Mutant(
            lambda matrix, axis, rank, ranks: shard(matrix, 1 - axis, rank, ranks),
            "rows and columns are swapped: axis 0 counts rows",
            says="swapped",
        ),
        Mutant(
            shard_interleaved,
            "every n-th row or column instead of a run: heads would be torn apart",
            says="every n-th",
        ),
    ),
)


def heads(rank, ranks, query_heads, shared_heads):
    mine = shared_heads // ranks
    group = query_heads // shared_heads
    shared = list(range(rank * mine, (rank + 1) * mine))
    return [head * group + member for head in shared for member in range(group)], shared


def library_heads(rank, ranks, query_heads, shared_heads):
    config = MistralConfig(num_attention_heads=query_heads, num_key_value_heads=shared_heads)
    rank_config(config, ranks)
    whole = (torch.arange(query_heads), torch.arange(shared_heads))
    return tuple(own_part(numbers, 0, rank, ranks).tolist() for numbers in whole)


def dealt(answer, rank, ranks, query_heads, shared_heads):
    """What an answer deals to a rank; a `range` is as good as a list."""
    found = answer(rank, ranks, query_heads, shared_heads)
    if not isinstance(found, list | tuple):
        return found
    return tuple(list(part) if isinstance(part, range) else part for part in found)


def heads_by_remainder(rank, ranks, query_heads, shared_heads):
    shared = heads(rank, ranks, query_heads, shared_heads)[1]
    return [head for head in range(query_heads) if head % shared_heads in shared], shared


HEADS = Exercise(
    id="16.heads",
    title="Whose heads?",
    difficulty=2,
    minutes=8,
    task="Write `heads(rank, ranks, query_heads, shared_heads)`: two lists, the query heads and "
    "the key/value heads that one rank holds. Each key/value head serves a run of neighbouring "
    "query heads, and they must stay together. You may take for granted that `ranks` divides "
    "`shared_heads`.",
    stub='''def heads(rank, ranks, query_heads, shared_heads):
    """([query heads], [key/value heads]) of a rank."""
    ...''',
    check=by_cases(
        [(0, 2, 4, 2), (1, 2, 4, 2), (1, 2, 8, 4), (3, 4, 8, 4), (2, 4, 32, 8), (0, 1, 8, 2)],
        truth=library_heads,
        run=dealt,
    ),
    hints=(
        "Deal out the key/value heads first: a run of them for each rank.",
        "Query heads G·j up to G·j + G − 1 use key/value head j. What is G?",
        "`group = query_heads // shared_heads`; for every own key/value head j, the query heads "
        "`range(j * group, (j + 1) * group)`.",
    ),
    solution=heads,
    mutants=(
        Mutant(
            lambda rank, ranks, query_heads, shared_heads: (
                list(range(rank, query_heads, ranks)),
                list(range(rank, shared_heads, ranks)),
            ),
            "heads are dealt like cards, one to each rank in turn; a rank holds a run of them",
            says="dealt like cards",
        ),
        Mutant(
            heads_by_remainder,
            "query head h is sent to key/value head h mod Hkv; neighbours share one: h // G",
            says="neighbours share one",
        ),
        Mutant(
            lambda rank, ranks, query_heads, shared_heads: (
                heads(rank, ranks, query_heads, shared_heads)[0],
                list(range(shared_heads)),
            ),
            "every rank holds all key/value heads, so the cache does not shrink at all",
            says="does not shrink",
        ),
    ),
)


def traffic(ranks, width, layers, item):
    return 2 * layers * 2 * (ranks - 1) * width // ranks * item


def library_traffic(ranks, width, layers, item):
    return 2 * layers * sum_bytes(ranks, width, item)


TRAFFIC = Exercise(
    id="16.traffic",
    title="Count the traffic",
    difficulty=2,
    minutes=8,
    task="Write `traffic(ranks, width, layers, item)`: the bytes that each rank sends for one "
    "token in all layers; what the embedding and the head send is left out. Each layer ends its "
    "two halves with a sum of `width` numbers of `item` bytes. In a ring of n ranks, a sum takes "
    "every rank n − 1 messages to add up the parts and n − 1 more to hand the finished parts "
    "round; each message is one part, `width / n` numbers. `ranks` divides `width`.",
    stub='''def traffic(ranks, width, layers, item):
    """Bytes that one rank sends for one token."""
    ...''',
    check=by_cases(
        [(1, 8, 1, 2), (2, 8, 1, 2), (4, 8, 3, 2), (2, 128, 6, 4), (8, 4096, 32, 2)],
        truth=library_traffic,
    ),
    hints=(
        "How many messages does a rank send for one sum? How large is each?",
        "2 (n − 1) messages of width / n numbers; and how many sums has a layer?",
        "2 · layers sums, each of 2 (n − 1) · (width // n) · item bytes.",
    ),
    solution=traffic,
    mutants=(
        Mutant(
            lambda ranks, width, layers, item: traffic(ranks, width, layers, item) // 2,
            "half of it: a layer has two sums, and a sum goes round the ring twice",
            says="half of it",
        ),
        Mutant(
            lambda ranks, width, layers, item: traffic(ranks, width, layers, item) * ranks,
            "whole vectors are sent round; in a ring a message is one part of n",
            says="one part of n",
        ),
        Mutant(
            lambda ranks, width, layers, item: traffic(ranks, width, layers, 1),
            "numbers are counted, not bytes: each number has `item` of them",
            says="numbers are counted",
        ),
        Mutant(
            lambda ranks, width, layers, item: (
                traffic(ranks, width, 1, item) // 2 * (2 * layers + 1)
            ),
            "one sum too many: the embedding's is left out here",
            says="one sum too many",
        ),
        Mutant(
            lambda ranks, width, layers, item: 2 * layers * width * item,
            "it does not depend on the number of ranks, yet a single rank sends nothing",
            says="sends nothing",
        ),
    ),
)

EXERCISES = (SHARD, HEADS, TRAFFIC, PLAN)
