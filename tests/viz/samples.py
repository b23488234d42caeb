"""Frames that the drawing tests share: ordinary ones, and the edges of every range."""

from mistral_edu.config import MistralConfig
from mistral_edu.experiments.record import read
from mistral_edu.viz import (
    H200,
    budget_frame,
    chunk_sweep_frame,
    limit_sweep_frame,
    mask_frame,
    memory_sweep_frame,
    reach_frame,
    reach_sweep_frame,
    ring_frame,
    roofline_frame,
    shapes_frame,
    shards_frame,
    shards_sweep_frame,
    speed_up_frame,
    tile_frame,
    tile_steps,
)

SMALL = MistralConfig(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    sliding_window=8,
)
SEVEN_B = MistralConfig.mistral_7b_v0_1()

RECORDED = read("attention")
CONTEXTS = [2**power for power in range(10, 18)]


def sweep(is_wrong, windows=(2, 4, 8)):
    """Every case of lesson 08's sweep, with a verdict by a rule."""
    sizes = [(w, n, chunk) for w in windows for n in range(1, 13) for chunk in range(1, 7)]
    return chunk_sweep_frame({case: is_wrong(*case) for case in sizes})


def hasty(window, length, chunk):
    """Whether some chunk of two or more tokens ends past the window."""
    starts = range(0, length, chunk)
    ends = [(start, min(start + chunk, length)) for start in starts]
    return any(end > window and end - start > 1 for start, end in ends)


FRAMES = {
    "mask of one token": mask_frame("window", length=1, window=1),
    "causal mask, longest": mask_frame("causal", length=16),
    "window mask": mask_frame("window", length=8, window=3),
    "padded mask, longest": mask_frame("left-padded", length=16, window=16, padding=15),
    "wrapped ring mask": mask_frame("ring cache", length=10, window=4, chunk=3),
    "ring mask of one token": mask_frame("ring cache", length=10, window=4, chunk=1),
    "ring mask, widest": mask_frame("ring cache", length=16, window=16, chunk=1),
    "reach of one layer": reach_frame(window=1, layers=1),
    "reach, longest title": reach_frame(window=8, layers=6, length=24),
    "empty ring": ring_frame(),
    "ring that evicts": ring_frame(window=4, prompt=6, chunk=3, step=2),
    "ring of one slot": ring_frame(window=1, prompt=1, chunk=1, step=3),
    "ring, longest title": ring_frame(window=8, prompt=12, chunk=12, step=1),
    "ring, one slot for many": ring_frame(window=1, prompt=12, chunk=12, step=1),
    "ring, all evicted at once": ring_frame(window=8, prompt=12, chunk=11, step=2),
    "budget of the 7B": budget_frame(SEVEN_B, "Mistral-7B", batch=64, context=131072),
    "budget of one component": budget_frame(SEVEN_B, "Mistral-7B", component="attention k"),
    "budget of a small model": budget_frame(SMALL, "small", context=1, component="head"),
    "roofline, bound by memory": roofline_frame(),
    "roofline, bound by arithmetic": roofline_frame(precision="float32", batch=64, context=128),
    "roofline of a fast machine": roofline_frame(H200, "int4", batch=64, context=128),
    "limit sweep": limit_sweep_frame(
        {"batch 1": 20.0, "batch 8": 100.0},
        {"batch 1": {"engine": 22.0, "plain model": 16.0}, "batch 8": {"engine": 50.0}},
    ),
    "memory, one flat line": memory_sweep_frame(
        CONTEXTS,
        {
            "Mistral-7B": [14.6, 14.8, *[15.0] * 6],
            "no window": [14.6, 14.8, 15.0, 15.6, 16.6, 18.8, 23.1, 31.7],
            "no window, no sharing": [16.6, 17.2, 18.2, 20.4, 24.7, 33.3, 50.5, 84.8],
        },
    ),
    "memory, one small line": memory_sweep_frame([1, 2], {"small": [0.1, 0.2]}),
    "reach sweep on the line": reach_sweep_frame(
        range(1, 7), {w: [1 + n * (w - 1) for n in range(1, 7)] for w in (1, 2, 4, 8)}
    ),
    "reach sweep off the line": reach_sweep_frame([1], {2: [3]}),
    "chunk sweep of a hasty cache": sweep(hasty),
    "chunk sweep without a fault": sweep(lambda *case: False, windows=(4,)),
    "chunk sweep with every fault": sweep(lambda *case: True, windows=(1, 12)),
    "shapes": shapes_frame(SEVEN_B, batch=2, length=5),
    "tiles, none read": tile_frame(),
    "tiles, half way": tile_frame(window=6, tile=4, step=5),
    "tiles, all read": tile_frame(window=6, tile=4, step=9),
    "tiles of one pair": tile_frame(window=16, tile=1, step=tile_steps(16, 1) - 1),
    "tiles, longest title": tile_frame(window=16, tile=8, step=2),
    "speed-up, recorded": speed_up_frame(RECORDED["finding"], RECORDED["rows"]),
    "shards on one rank": shards_frame(SEVEN_B, "Mistral-7B", ranks=1, stop=7),
    "shards on eight ranks": shards_frame(SEVEN_B, "Mistral-7B", ranks=8, stop=2),
    "shards refused": shards_frame(SEVEN_B, "Mistral-7B", ranks=16),
    "shards of a small model": shards_frame(SMALL, "small", ranks=2, stop=4),
    "shards sweep": shards_sweep_frame(
        [1, 2, 4, 8],
        [14.5, 7.2, 3.6, 1.8],
        [0.5, 0.3, 0.1, 0.1],
        {"2 µs": [15.0, 7.8, 4.6, 3.7], "20 µs": [15.0, 10.1, 11.6, 20.1]},
    ),
}
