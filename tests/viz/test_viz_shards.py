"""Who holds which shard: the picture's numbers against real DTensors and a ring that sends."""

from itertools import product

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from mistral_edu.config import MistralConfig
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.parallel import joined, local_bytes, parallelize, rank_config
from mistral_edu.viz import explore_shards, figure, shards_frame, shards_sweep_frame
from mistral_edu.viz.sharding import cut_axis, cuts, gather_bytes, rank_bytes, sum_bytes
from mistral_edu.viz.shards import WAY
from mistral_edu.weights.shapes_only import shapes_only

SEVEN_B = MistralConfig.mistral_7b_v0_1()
UNEVEN = MistralConfig(
    vocab_size=67,  # of which the last rank gets less
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=4,
)
TIED = UNEVEN.changed(tie_word_embeddings=True)


def uncut(config: MistralConfig) -> MistralForCausalLM:
    with shapes_only():
        return MistralForCausalLM(config)


def test_every_matrix_is_cut_along_the_axis_that_pytorch_cuts_it() -> None:
    whole, real = uncut(UNEVEN), uncut(UNEVEN)
    with joined() as mesh:
        parallelize(real, mesh)
        for name, weight in real.named_parameters():
            module = name.removesuffix(".weight")
            axis = cut_axis(module, whole.get_submodule(module))
            if isinstance(weight, DTensor):
                assert axis == weight.placements[0].dim, name
            else:
                assert axis is None, name


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_rank_is_said_to_hold_what_it_would_hold(ranks: int) -> None:
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    held = []
    for rank in range(ranks):
        distributed.init_process_group("fake", store=fake.FakeStore(), rank=rank, world_size=ranks)
        try:
            model = parallelize(uncut(UNEVEN), init_device_mesh("cpu", (ranks,)))
            held.append(local_bytes(model))
        finally:
            distributed.destroy_process_group()
    assert rank_bytes(UNEVEN, ranks, item=4) == tuple(held)
    heads = [4 * piece.held(rank) for piece in cuts(UNEVEN, ranks)[-1:] for rank in range(ranks)]
    tied = zip(rank_bytes(TIED, ranks, item=4), heads, strict=True)
    assert [size + head for size, head in tied] == held


def test_the_parts_are_the_model() -> None:
    for ranks in (1, 2, 4, 8):
        pieces = cuts(SEVEN_B, ranks)
        for piece in pieces:
            assert piece.axis is None or sum(piece.parts) == piece.shape[piece.axis]
    numbers = sum(piece.held(0) for piece in cuts(SEVEN_B, 1))
    assert numbers == 7_241_732_096


def passed_round(ranks: int, width: int) -> tuple[torch.Tensor, list[int]]:
    """A ring that adds up vectors part by part; what each rank has then, and what it sent."""
    held = torch.arange(ranks * width).view(ranks, ranks, -1)  # (rank, part, numbers)
    expected, sent = held.sum(dim=0), [0] * ranks
    for step in range(2 * (ranks - 1)):
        parts = [(rank - step) % ranks for rank in range(ranks)]
        messages = [held[rank, part].clone() for rank, part in enumerate(parts)]
        for rank, (part, message) in enumerate(zip(parts, messages, strict=True)):
            sent[rank] += 2 * message.numel()
            there = held[(rank + 1) % ranks, part]
            there.copy_(there + message if step < ranks - 1 else message)
    assert all(torch.equal(each, expected) for each in held)
    return held, sent


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_a_sum_costs_what_a_real_ring_sends(ranks: int) -> None:
    width = 24 * ranks
    _, sent = passed_round(ranks, width)
    assert sent == [sum_bytes(ranks, width)] * ranks
    assert 2 * gather_bytes(ranks, width) == sum_bytes(ranks, width)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_every_head_is_on_one_rank_and_every_group_together(ranks: int) -> None:
    frame = shards_frame(SEVEN_B, ranks=ranks)
    share = rank_config(SEVEN_B, ranks)
    queries, shared = [], []
    for rank in range(ranks):
        own, kept = map(list, frame.heads(rank))
        assert len(own) == share.num_attention_heads and len(kept) == share.num_key_value_heads
        assert sorted({head // SEVEN_B.group_size for head in own}) == kept
        queries, shared = queries + own, shared + kept
    assert queries == list(range(32)) and shared == list(range(8))


def test_a_refusal_is_the_librarys_own_and_leaves_the_matrices_uncut() -> None:
    frame = shards_frame(SEVEN_B, "Mistral-7B", ranks=16)
    with pytest.raises(ValueError, match="one of") as refused:
        rank_config(SEVEN_B, 16)
    assert frame.refusal == str(refused.value) and frame.weight_bytes == ()
    (axes,) = figure(frame).axes
    said = " ".join(text.get_text() for text in axes.texts).replace("\n", " ")
    assert frame.refusal in said and "rank 0" not in said
    assert not any(box.get_hatch() for box in axes.patches)
    dealt = [text.get_text() for text in axes.texts][-2 * 16 :: 2]  # under them the ranks
    assert dealt == [*map(str, range(8)), *["none"] * 8]
    (axes,) = figure(shards_frame(SEVEN_B, ranks=3)).axes
    assert [text.get_text() for text in axes.texts][-6::2] == ["0–2", "3–5", "6–7"]
    with pytest.raises(ValueError, match="ranks=0"):
        shards_frame(SEVEN_B, ranks=0)
    with pytest.raises(ValueError, match="stop=8"):
        shards_frame(SEVEN_B, stop=8)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_matrices_are_drawn_to_one_scale_each_rank_in_its_own_look(ranks: int) -> None:
    frame = shards_frame(SEVEN_B, ranks=ranks, stop=4)
    (axes,) = figure(frame).axes
    outlines = [box for box in axes.patches if not box.get_fill()]
    for box, piece in zip(outlines, frame.matrices, strict=True):
        rows, columns = piece.shape
        assert box.get_height() / rows == pytest.approx(outlines[0].get_height() / 32000)
        assert box.get_width() / columns == pytest.approx(outlines[0].get_height() / 32000)
    thick = [box.get_linewidth() > 2 for box in outlines]
    assert thick == [piece.name in ("gate", "up", "down") for piece in frame.matrices]
    stops = len(WAY)
    parts = [box for box in axes.patches if box.get_fill()][stops:]
    looks = [(box.get_facecolor(), box.get_hatch()) for box in parts]
    cards = looks[-ranks:]
    assert len(set(cards)) == ranks
    assert looks == cards * (len(frame.matrices) + 1)


def test_the_words_tell_every_stop_and_number_of_ranks_apart() -> None:
    frames = [shards_frame(SEVEN_B, ranks=n, stop=k) for n in (1, 2, 8) for k in range(len(WAY))]
    assert len({frame.summary for frame in frames}) == len(frames)
    sums = [frame for frame in frames if frame.ranks == 8 and WAY[frame.stop][0] == "sum"]
    said = "every rank sends its neighbour 14 messages, 14,336 bytes"
    assert {frame.happens.partition(";")[0] for frame in sums} == {said}
    last = [frame for frame in frames if frame.ranks == 2 and frame.stop == len(WAY) - 1]
    assert "its neighbour 1 message, 32,000 bytes" in last[0].happens


@pytest.mark.parametrize("ranks", [1, 2, 8, 16])
def test_arrows_go_round_the_ranks_where_they_talk_and_nowhere_else(ranks: int) -> None:
    for stop, (name, _) in enumerate(WAY):
        (axes,) = figure(shards_frame(SEVEN_B, ranks=ranks, stop=stop)).axes
        arrows = [text.arrow_patch for text in axes.texts if hasattr(text, "arrow_patch")]
        talk = name in ("sum", "gather") and 1 < ranks < 16
        assert len(arrows) == (ranks if talk else 0)


@pytest.mark.usefixtures("undrawn")
def test_every_control_moves_over_its_whole_range() -> None:
    explorer = explore_shards(ranks=2)
    model, ranks, stop = (explorer.controls[name] for name in ("model", "ranks", "stop"))
    stops = range(stop.min, stop.max + 1)
    for name, index, place in product(model.options, range(len(ranks.options)), stops):
        model.value, ranks.index, stop.value = name, index, place
        frame = explorer.frame
        assert (frame.model, frame.ranks, frame.stop) == (name, 2**index, place - 1)
        assert bool(frame.refusal) == bool(frame.config.num_key_value_heads % frame.ranks)
    stop.value = 1
    explorer.stepper.press("Next")
    assert explorer.frame.stop == 1


def test_the_sweep_marks_the_fastest_and_refuses_what_does_not_fit() -> None:
    frame = shards_sweep_frame(
        [1, 2, 4], [8.0, 4.0, 2.0], [0.5, 0.2, 0.1], {"2 µs": [9, 5, 3], "20 µs": [9, 8, 12]}
    )
    assert frame.best == {"2 µs": 4, "20 µs": 2}
    assert frame.title.endswith("the fastest number of ranks is 4 at 2 µs and 2 at 20 µs")
    _, times = figure(frame).axes
    rings = [line for line in times.lines if line.get_markersize() == 13]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == [(2, 3), (1, 8)]
    with pytest.raises(ValueError, match="'cache' has 1 numbers for 2"):
        shards_sweep_frame([1, 2], [8.0, 4.0], [0.5], {"2 µs": [9, 5]})
    with pytest.raises(ValueError, match="0 kinds of link"):
        shards_sweep_frame([1], [8.0], [0.5], {})
