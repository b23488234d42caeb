"""Budget and shapes: the figures' numbers against the model's own tensors."""

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from samples import SEVEN_B, SMALL

from mistral_edu.config import MistralConfig
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.rolling_cache import RollingCache
from mistral_edu.viz import budget_frame, explore_budget, figure, shapes_frame
from mistral_edu.viz.parameters import components

OF_TENSOR = {
    "embed_tokens": "embedding",
    "q_proj": "attention q",
    "k_proj": "attention k",
    "v_proj": "attention v",
    "o_proj": "attention o",
    "mlp": "mlp",
    "norm": "norms",
    "lm_head": "head",
}


def counted(config: MistralConfig) -> dict[str, int]:
    """Parameters by component, counted in a real model that holds no memory."""
    with torch.device("meta"):
        model = MistralForCausalLM(config)
    totals = dict.fromkeys(OF_TENSOR.values(), 0)
    for name, tensor in model.named_parameters():
        (component,) = {part for key, part in OF_TENSOR.items() if key in name}
        totals[component] += tensor.numel()
    return totals


@pytest.mark.parametrize(
    "config",
    [SMALL, SEVEN_B, MistralConfig(**{**SMALL.to_dict(), "head_dim": 12, "sliding_window": None})],
    ids=["small", "7B", "head_dim apart"],
)
def test_components_are_the_parameters_of_the_real_model(config: MistralConfig) -> None:
    assert {part.name: part.parameters for part in components(config)} == counted(config)


def test_the_7b_has_the_number_everyone_quotes() -> None:
    assert budget_frame(SEVEN_B).parameters == 7_241_732_096


def test_a_tied_head_adds_nothing() -> None:
    tied = MistralConfig(**{**SMALL.to_dict(), "tie_word_embeddings": True})
    *_, head = components(tied)
    assert head.parameters == 0
    assert head.product == ("shared with the embedding", "0")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("context", [1, 7, 8, 9, 64])
def test_cache_bytes_are_what_a_rolling_cache_reserves(dtype: str, context: int) -> None:
    cache = RollingCache.allocate(SMALL, 3, capacity=context, dtype=getattr(torch, dtype))
    frame = budget_frame(SMALL, dtype=dtype, batch=3, context=context)
    assert frame.cache_bytes == cache.nbytes
    assert frame.unbounded_bytes == cache.nbytes // cache.slot_count * context


def test_without_a_window_the_cache_keeps_the_whole_context() -> None:
    config = MistralConfig(**{**SMALL.to_dict(), "sliding_window": None})
    frame = budget_frame(config, context=100)
    assert frame.cache_bytes == frame.unbounded_bytes
    assert frame.cache_formula == (
        "rolling cache: bytes per token × context × batch",
        "= 192 × 100 × 1 = 19,200 bytes",
    )


def test_the_formula_of_a_component_multiplies_out() -> None:
    assert budget_frame(SMALL, component="attention k").formula == (
        "attention k: layers × hidden × key/value heads × head dim",
        "= 3 × 32 × 16 = 1,536 parameters (5.2% of all)",
    )
    assert budget_frame(SMALL, component="norms").formula == (
        "norms: (2 × layers + 1) × hidden",
        "= 7 × 32 = 224 parameters (0.8% of all)",
    )


@pytest.mark.parametrize("model", [SMALL, SEVEN_B], ids=["small", "7B"])
@pytest.mark.parametrize(("batch", "context"), [(1, 1), (64, 131072)])
def test_no_line_of_a_formula_is_wrapped(model: MistralConfig, batch: int, context: int) -> None:
    for part in components(model):
        frame = budget_frame(model, batch=batch, context=context, component=part.name)
        drawn = figure(frame)
        FigureCanvasAgg(drawn).draw()
        words = drawn.texts[-1]
        assert words.get_text().splitlines() == [*frame.formula, *frame.cache_formula]
        assert words.get_window_extent().x1 < drawn.bbox.x1


def test_the_text_is_the_table() -> None:
    lines = budget_frame(SMALL, "small", context=4, component="norms").to_text().splitlines()
    assert lines[1] == "parameters    share    component"
    assert lines[8] == "       224    0.76%        norms"
    assert lines[10] == "    29,408  100.00%        total"
    assert lines[11] == "bfloat16, 1 text of 4 tokens:"
    assert lines[13] == "   768  bytes         rolling cache"


def test_the_selected_component_is_marked_in_words_too() -> None:
    left = figure(budget_frame(SMALL, component="attention k")).axes[0]
    marked = [label.get_text() for label in left.get_yticklabels() if "▸" in label.get_text()]
    assert marked == ["▸ attention k"]


def test_unknown_choices_are_refused_with_the_value() -> None:
    with pytest.raises(ValueError, match="dtype='int3'"):
        budget_frame(SMALL, dtype="int3")
    with pytest.raises(ValueError, match="component='router'"):
        budget_frame(SMALL, component="router")
    with pytest.raises(ValueError, match="batch=0"):
        budget_frame(SMALL, batch=0)


@pytest.mark.usefixtures("undrawn")
def test_every_control_moves_over_its_whole_range() -> None:
    explorer = explore_budget({"7B": SEVEN_B, "small": SMALL})
    for name in ("model", "component", "dtype"):
        for option in explorer.controls[name].options:
            explorer.controls[name].value = option
            assert str(option) in explorer.frame.to_text()
    batch, context = explorer.controls["batch"], explorer.controls["context"]
    for value in (batch.min, 2, batch.max, 999):
        batch.value = value
        assert explorer.frame.batch == min(value, batch.max)
    for words, value in context.options:
        context.value = value
        assert explorer.frame.context == value
        assert f" of {words} token" in explorer.frame.summary


@pytest.mark.usefixtures("undrawn")
def test_one_arrow_key_doubles_the_context_and_meets_the_window() -> None:
    explorer = explore_budget({"7B": SEVEN_B}, context=32768)
    context = explorer.controls["context"]
    assert [value for _, value in context.options] == [2**power for power in range(18)]
    for _ in range(3):  # From 32,768 down to the window.
        assert explorer.frame.cache_bytes < explorer.frame.unbounded_bytes
        context.index -= 1
    assert explorer.frame.context == explorer.frame.window
    assert explorer.frame.cache_bytes == explorer.frame.unbounded_bytes


def test_a_context_that_no_step_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match="5000 is not a power of two"):
        explore_budget({"7B": SEVEN_B}, context=5000)


@pytest.mark.usefixtures("undrawn")
def test_the_presets_are_the_7b_and_the_courses_own_model() -> None:
    explorer = explore_budget()
    assert explorer.frame.parameters == 7_241_732_096
    explorer.controls["model"].value = "tiny"
    assert explorer.frame.parameters < 10**7


def test_shapes_are_those_of_a_real_forward_pass() -> None:
    model = MistralForCausalLM(SMALL, attention="eager")
    frame = shapes_frame(SMALL, batch=2, length=5)
    ids = torch.zeros(2, 5, dtype=torch.long)
    out = model(ids, use_cache=True, output_attentions=True, output_hidden_states=True)
    gates = []
    model.model.layers[0].mlp.gate_proj.register_forward_hook(lambda *args: gates.append(args[-1]))
    model(ids)
    keys, _ = next(iter(out.past_key_values))
    real = {
        "token ids": ids,
        "embedded": out.hidden_states[0],
        "keys, values": keys,
        "attention weights": out.attentions[0],
        "gate, up": gates[0],
        "layer output": out.hidden_states[1],
        "logits": out.logits,
    }
    shown = {row.name: row.shape for row in frame.rows}
    assert {name: tuple(tensor.shape) for name, tensor in real.items()}.items() <= shown.items()
