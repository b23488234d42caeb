"""The roofline: its counts are the model's, its limits the machine's, its words the numbers'."""

import pytest
import torch
from samples import FRAMES, SEVEN_B, SMALL

from mistral_edu import MistralForCausalLM
from mistral_edu.bench import costs
from mistral_edu.experiments.record import read
from mistral_edu.quantized_model import quantize_model, weight_bytes
from mistral_edu.viz import (
    H200,
    Machine,
    explore_roofline,
    figure,
    limit_sweep_frame,
    recorded_machine,
    roofline_frame,
    workload,
)
from mistral_edu.viz.roofline import crossover

TOY = Machine("toy", read=100.0, multiply={"float32": 400.0, "bfloat16": 1600.0})


@pytest.mark.parametrize("config", [SMALL, SEVEN_B], ids=["small", "7b"])
@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
@pytest.mark.parametrize(("batch", "context"), [(1, 1), (8, 8), (3, 10_000)])
def test_unquantized_bytes_are_the_benchmarks(config, precision, dtype, batch, context) -> None:
    found = workload.decoding(config, precision, batch, context).bytes
    assert found == costs.step_bytes(config, batch, context, dtype)


@pytest.mark.parametrize(("precision", "bits"), [("int8", 8), ("int4", 4)])
def test_quantized_bytes_are_those_of_a_quantized_model(precision: str, bits: int) -> None:
    config = SMALL.changed(intermediate_size=64)
    model = quantize_model(MistralForCausalLM(config).to(torch.bfloat16), bits=bits)
    table = 2 * config.vocab_size * config.hidden_size
    assert workload.weight_bytes(config, precision) == weight_bytes(model) - table


def test_decoding_does_what_a_prompt_of_one_token_does() -> None:
    one = workload.decoding(SEVEN_B, "bfloat16", batch=1, context=1)
    assert one.operations == costs.prompt_operations(SEVEN_B, 1)


def test_a_batch_shares_the_weights_and_nothing_else() -> None:
    one, three = (workload.decoding(SEVEN_B, "int8", batch, 200) for batch in (1, 3))
    held = costs.cache_bytes(SEVEN_B, 200, torch.bfloat16)
    assert three.bytes - one.bytes == 2 * held
    assert three.operations == 3 * one.operations


def test_speed_is_bound_by_the_slower_of_the_two() -> None:
    slow_to_read = workload.Work("a", tokens=2, bytes=200, operations=400)
    slow_to_multiply = workload.Work("b", tokens=2, bytes=100, operations=800)
    assert TOY.ridge("float32") == 4
    assert (TOY.bound("float32", slow_to_read), TOY.tokens_per_second("float32", slow_to_read)) == (
        "memory",
        1,
    )
    assert TOY.bound("float32", slow_to_multiply) == "arithmetic"
    assert TOY.tokens_per_second("float32", slow_to_multiply) == 1
    assert TOY.roof("float32", 2) == 200
    assert TOY.roof("float32", 8) == 400


@pytest.mark.parametrize("machine", [TOY, H200, recorded_machine()], ids=lambda m: m.name)
@pytest.mark.parametrize("precision", workload.PRECISIONS)
@pytest.mark.parametrize("context", [1, 128, 4096])
def test_the_crossover_is_the_first_batch_that_arithmetic_binds(
    machine, precision, context
) -> None:
    found = crossover(machine, precision, SEVEN_B, context)

    def binds(batch: int) -> bool:
        work = workload.decoding(SEVEN_B, precision, batch, context)
        return machine.bound(precision, work) == "arithmetic"

    if found is None:
        assert not binds(10**7)
    else:
        assert binds(found)
        assert found == 1 or not binds(found - 1)


def test_the_recorded_limits_are_the_recorded_ones() -> None:
    machine, limits = recorded_machine(), read("bench-small229")["settings"]["limits"]
    assert machine.read == 1e9 * limits["bfloat16"]["read"]["median"]
    assert machine.rate("int4") == 1e9 * limits["bfloat16"]["matmul bfloat16"]["median"]


def test_the_dots_lie_on_the_roof() -> None:
    frame = roofline_frame(batch=30, context=512, precision="float32")
    (axes,) = figure(frame).axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(dots) == 5
    for line, work in zip(dots, (*frame.others, frame.chosen), strict=True):
        assert line.get_xdata()[0] == work.intensity
        speed = work.operations / frame.machine.seconds("float32", work)
        assert line.get_ydata()[0] == pytest.approx(speed)


@pytest.mark.usefixtures("undrawn")
def test_every_control_moves_over_its_whole_range() -> None:
    machines = {machine.name: machine for machine in (recorded_machine(), H200, TOY)}
    explorer = explore_roofline(machines)
    for name in machines:
        explorer.controls["machine"].value = name
        for precision in workload.PRECISIONS:
            explorer.controls["precision"].value = precision
            for batch in (1, 2, 63, 64):
                explorer.controls["batch"].value = batch
                for context in (128, 4096):
                    explorer.controls["context"].value = context
                    work = workload.decoding(SEVEN_B, precision, batch, context)
                    assert explorer.frame.limit == machines[name].tokens_per_second(precision, work)
                    assert f"bound by {explorer.frame.bound}" in explorer.frame.title


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="batch=0"):
        roofline_frame(batch=0)
    with pytest.raises(ValueError, match="precision='int2'"):
        roofline_frame(precision="int2")
    with pytest.raises(ValueError, match="limits are for"):
        limit_sweep_frame({"a": 1.0}, {"b": {"ours": 1.0}})
    with pytest.raises(ValueError, match="5 programs: give 1 to 4"):
        limit_sweep_frame({"a": 1.0}, {"a": {str(n): 1.0 for n in range(5)}})


def test_a_share_is_what_was_measured_of_the_limit() -> None:
    frame = FRAMES["limit sweep"]
    assert frame.shares("engine") == {"batch 1": 1.1, "batch 8": 0.5}
    assert frame.title == "Reached of the reading limit: engine 50 to 110 % and plain model 80 %"
    assert frame.to_text().splitlines()[-1] == "batch 8               100    50 %            –"


def test_marks_stand_at_their_shares() -> None:
    (axes,) = figure(FRAMES["limit sweep"]).axes
    marks = {line.get_label(): line for line in axes.lines if line.get_marker() not in ("None", "")}
    assert list(marks["engine"].get_xdata()) == pytest.approx([110, 50])
    assert list(marks["engine"].get_ydata().round()) == [0, 1]
    assert list(marks["plain model"].get_ydata().round()) == [0]
    assert marks["engine"].get_marker() != marks["plain model"].get_marker()


def test_no_mark_hides_another_where_all_programs_are_equally_fast() -> None:
    drawn = figure(limit_sweep_frame({"a": 1.0}, {"a": dict.fromkeys("1234", 0.7)}))
    (axes,) = drawn.axes
    marks = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    heights = [axes.transData.transform((0, line.get_ydata()[0]))[1] for line in marks]
    pixels = marks[0].get_markersize() * drawn.dpi / 72
    assert len(marks) == 4
    assert all(high - low > pixels for high, low in zip(heights, heights[1:], strict=False))


def names_at(batch: int) -> list[str]:
    (axes,) = figure(roofline_frame(batch=batch)).axes
    return [text.get_text() for text in axes.texts if text.get_text().startswith("batch ")]


def test_the_ring_has_a_name_and_no_other_stands_at_it() -> None:
    assert names_at(1) == ["batch 8", "batch 64", "batch 1"]
    assert names_at(8) == ["batch 1", "batch 64", "batch 8"]
    assert names_at(59) == ["batch 1", "batch 8", "batch 59"]
    for batch in range(1, 65):
        names = names_at(batch)
        assert len(names) == len(set(names)), batch
        assert names[-1] == f"batch {batch}"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_word_ridge_stands_where_the_roof_bends(precision: str) -> None:
    (axes,) = figure(roofline_frame(TOY, precision)).axes
    (word,) = [text for text in axes.texts if text.get_text() == "ridge"]
    assert word.xy[0] == TOY.ridge(precision)
