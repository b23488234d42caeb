"""Budget, the picture: bars of parameters by component beside bars of memory.

Lesson: 00_map_and_toolbox. The data is in `budget.py`.

Conventions
    The selected component is darker, marked with ▸ and bold; its formula stands below. Every bar
    carries its number, so those too short to see can still be read.
"""

from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from mistral_edu.config import MistralConfig
from mistral_edu.paths import data_dir
from mistral_edu.viz.budget import DTYPES, EVERYTHING, BudgetFrame, budget_frame
from mistral_edu.viz.explorer import Explorer, choice, doublings, number
from mistral_edu.viz.frame import magnitude, readable, short, unit_for
from mistral_edu.viz.parameters import components
from mistral_edu.viz.render import draw
from mistral_edu.viz.style import BLUE, LINE, SHADE, SKY, card, panel

LONGEST_CONTEXT = 131072
LARGEST_BATCH = 64


@draw.register
def _(frame: BudgetFrame) -> Figure:
    figure = card(5.0, frame.title)
    _draw_parameters(panel(figure, 1.1, 1.5, 2.7, 2.5), frame)
    _draw_memory(panel(figure, 5.4, 1.5, 2.05, 2.5), frame)
    lines = "\n".join([*frame.formula, *frame.cache_formula])
    figure.text(0.02, 0.04, lines, size=8.5, va="bottom", linespacing=1.5)
    return figure


def _draw_parameters(axes: Axes, frame: BudgetFrame) -> None:
    names = [part.name for part in frame.parts]
    sizes = [part.parameters for part in frame.parts]
    scale, unit = magnitude(max(sizes))
    chosen = [frame.selected in (name, EVERYTHING) for name in names]
    bars = axes.barh(names, [size / scale for size in sizes], edgecolor=LINE, lw=0.8)
    for bar, mark in zip(bars, chosen, strict=True):
        bar.set_facecolor(BLUE if mark else SKY)
    _finish(axes, bars, [short(size) for size in sizes])
    axes.set_xlabel(f"parameters ({unit})")
    axes.set_title("parameters by component")
    marks = [f"▸ {name}" if name == frame.selected else name for name in names]
    axes.set_yticks(range(len(names)), marks)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == frame.selected else "normal")


def _draw_memory(axes: Axes, frame: BudgetFrame) -> None:
    scale, unit = unit_for(max(frame.memory.values()))
    bars = axes.barh(
        list(frame.memory),
        [size / scale for size in frame.memory.values()],
        color=[BLUE, SKY, SHADE],
        edgecolor=LINE,
        height=0.6,
    )
    bars[-1].set(hatch="////", linestyle="--")
    _finish(axes, bars, [readable(size) for size in frame.memory.values()])
    axes.set_xlabel(f"memory ({unit}, decimal)")
    axes.set_title(f"memory in {frame.dtype},\n{frame.run}", linespacing=1.3)


def _finish(axes: Axes, bars: BarContainer, values: list[str]) -> None:
    """Write each bar's number beside it, first bar on top, with room for the longest."""
    axes.bar_label(bars, values, padding=3, size=8.5)
    axes.invert_yaxis()
    axes.margins(x=0.5)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)


def preset_models() -> dict[str, MistralConfig]:
    """The models that the budget offers by default: the released 7B and the course's own tiny one.

    >>> list(preset_models())
    ['Mistral-7B', 'tiny']
    """
    tiny = MistralConfig.from_pretrained(data_dir() / "tiny")
    return {"Mistral-7B": MistralConfig.mistral_7b_v0_1(), "tiny": tiny}


def explore_budget(
    models: dict[str, MistralConfig] | None = None,
    dtype: str = "bfloat16",
    batch: int = 1,
    context: int = 8192,
    component: str = EVERYTHING,
) -> Explorer:
    """The budget under the hand: choose a component to see its formula.

    Args:
        models: configs by name; by default `preset_models()`. The first is shown first.
        dtype, batch, context, component: as in `budget_frame`; the context a power of two.

    >>> explorer = explore_budget({"Mistral-7B": MistralConfig.mistral_7b_v0_1()})
    >>> explorer.controls["component"].value = "attention k"
    >>> explorer.frame.formula[1]
    '= 32 × 4,096 × 1,024 = 134,217,728 parameters (1.9% of all)'
    """
    models = models or preset_models()
    names = [part.name for part in components(next(iter(models.values())))]
    controls = {
        "model": choice("model", list(models), next(iter(models))),
        "component": choice("component", [EVERYTHING, *names], component),
        "dtype": choice("dtype", DTYPES, dtype),
        "batch": number("batch (sequences)", batch, 1, LARGEST_BATCH),
        "context": doublings("context (tokens)", context, 1, LONGEST_CONTEXT),
    }
    return Explorer(lambda model, **values: budget_frame(models[model], model, **values), controls)
