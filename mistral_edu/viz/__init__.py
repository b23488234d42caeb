"""Pictures of the model at work: frames of plain data, figures drawn from them, and explorers.

    show(mask_frame("window", length=8, window=4))      # static, for the page
    explore_mask(window=4)                              # alive, the same figure

`frame.py`, `style.py`, `render.py` and `explorer.py` are the frame around every topic; each topic
is one concept: `mask`, `reach`, `ring`, `budget`, `shapes`, `tile_sweep`, `shards`, `roofline`. A
sweep of cases (`memory_sweep`, `reach_sweep`, `chunk_sweep`, `speed_up`, `shards_sweep`,
`limit_sweep`) draws what a lesson has measured.
"""

from mistral_edu.viz.budget import BudgetFrame, budget_frame
from mistral_edu.viz.budget_figure import explore_budget, preset_models
from mistral_edu.viz.chunk_sweep import ChunkSweepFrame, chunk_sweep_frame
from mistral_edu.viz.explorer import Explorer
from mistral_edu.viz.frame import Frame
from mistral_edu.viz.limit_sweep import LimitSweepFrame, limit_sweep_frame
from mistral_edu.viz.machines import H200, Machine, measured_machine, recorded_machine
from mistral_edu.viz.mask import MaskFrame, mask_frame
from mistral_edu.viz.mask_figure import explore_mask
from mistral_edu.viz.memory_sweep import MemorySweepFrame, memory_sweep_frame
from mistral_edu.viz.reach import ReachFrame, explore_reach, reach_frame
from mistral_edu.viz.reach_sweep import ReachSweepFrame, reach_sweep_frame
from mistral_edu.viz.render import Picture, figure, show
from mistral_edu.viz.replay import replay
from mistral_edu.viz.ring import RingFrame, ring_frame, ring_steps
from mistral_edu.viz.ring_figure import explore_ring
from mistral_edu.viz.roofline import RooflineFrame, roofline_frame
from mistral_edu.viz.roofline_figure import explore_roofline
from mistral_edu.viz.shapes import ShapesFrame, shapes_frame
from mistral_edu.viz.shards import ShardsFrame, shards_frame
from mistral_edu.viz.shards_figure import explore_shards
from mistral_edu.viz.shards_sweep import ShardsSweepFrame, shards_sweep_frame
from mistral_edu.viz.speed_up import SpeedUpFrame, speed_up_frame
from mistral_edu.viz.tile_sweep import TileFrame, tile_frame, tile_steps
from mistral_edu.viz.tile_sweep_figure import explore_tiles

__all__ = [
    "H200",
    "BudgetFrame",
    "ChunkSweepFrame",
    "Explorer",
    "Frame",
    "LimitSweepFrame",
    "Machine",
    "MaskFrame",
    "MemorySweepFrame",
    "Picture",
    "ReachFrame",
    "ReachSweepFrame",
    "RingFrame",
    "RooflineFrame",
    "ShapesFrame",
    "ShardsFrame",
    "ShardsSweepFrame",
    "SpeedUpFrame",
    "TileFrame",
    "budget_frame",
    "chunk_sweep_frame",
    "explore_budget",
    "explore_mask",
    "explore_reach",
    "explore_ring",
    "explore_roofline",
    "explore_shards",
    "explore_tiles",
    "figure",
    "limit_sweep_frame",
    "mask_frame",
    "measured_machine",
    "memory_sweep_frame",
    "preset_models",
    "reach_frame",
    "reach_sweep_frame",
    "recorded_machine",
    "replay",
    "ring_frame",
    "ring_steps",
    "roofline_frame",
    "shapes_frame",
    "shards_frame",
    "shards_sweep_frame",
    "show",
    "speed_up_frame",
    "tile_frame",
    "tile_steps",
]
