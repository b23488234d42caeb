"""Frames that the drawing tests share: ordinary ones, and the edges of every range."""

from mistral_edu.config import MistralConfig
from mistral_edu.viz import budget_frame, mask_frame, reach_frame, ring_frame, shapes_frame

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

FRAMES = {
    "mask of one token": mask_frame("window", length=1, window=1),
    "causal mask, longest": mask_frame("causal", length=16),
    "window mask": mask_frame("window", length=8, window=3),
    "padded mask, longest": mask_frame("left-padded", length=16, window=16, padding=15),
    "wrapped ring mask": mask_frame("ring cache", length=10, window=4, chunk=3),
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
    "shapes": shapes_frame(SEVEN_B, batch=2, length=5),
}
