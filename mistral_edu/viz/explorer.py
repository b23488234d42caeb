"""Explorer: a frame under the hand. Controls in, one picture with its words out.

    control changes  →  frame = build(**values)  →  figure  →  one HTML widget

The picture is pushed into a single HTML widget, never printed into a captured output area:
nothing is drawn twice or lost. Its words stand beside it, out of sight, in an element that stays
and only changes its text, because that is what a screen reader speaks; see `accessible.py`.

Conventions
    Every slider has a box or a list beside it, with the label that names both. A box takes exact
    values. Steps are plain named buttons.
    The cell's output carries three forms: the live widget, a PNG for a page without a kernel, and
    the frame's text.
    CSS classes `medu-explorer`, `medu-<topic>` and `medu-summary` are stable.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from mistral_edu.viz.accessible import manners
from mistral_edu.viz.frame import Frame
from mistral_edu.viz.render import (
    figure,
    figure_png,
    frame_html,
    page,
    static_bundle,
    write_whole,
)

_LABEL = {"description_width": "10.5em"}


def number(label: str, value: int, low: int, high: int, step: int = 1) -> widgets.IntSlider:
    """A whole number with a slider and a box.

    >>> number("window (tokens)", 4, 1, 12).max
    12
    """
    return widgets.IntSlider(
        value=value, min=low, max=high, step=step, description=label, readout=False
    )


def doublings(label: str, value: int, low: int, high: int) -> widgets.SelectionSlider:
    """A power of two, chosen by a slider whose every step doubles.

    Args:
        label: what the number is, with its unit.
        value, low, high: powers of two.

    Raises:
        ValueError: when `value` is not a power of two between `low` and `high`.

    >>> control = doublings("context (tokens)", 8, 1, 16)
    >>> [name for name, power in control.options], control.index
    (['1', '2', '4', '8', '16'], 3)
    """
    powers = [1 << k for k in range(low.bit_length() - 1, high.bit_length())]
    if value not in powers:
        raise ValueError(f"{label}: {value} is not a power of two from {low:,} to {high:,}")
    options = [(f"{power:,}", power) for power in powers]
    return widgets.SelectionSlider(options=options, value=value, description=label, readout=False)


def choice(label: str, options: Sequence, value: Any) -> widgets.Dropdown:
    """One of a few options, as a drop-down list.

    >>> choice("kind", ["causal", "window"], "window").index
    1
    """
    return widgets.Dropdown(
        options=options, value=value, description=label, style=_LABEL, layout={"width": "27.5em"}
    )


def labelled(control: widgets.Widget) -> widgets.Widget:
    """The row a control stands in: a slider gets its box or list, anything else stands alone.

    >>> labelled(number("window (tokens)", 4, 1, 12)).children[0].description
    'window (tokens)'
    """
    shared = {"description": control.description, "style": _LABEL, "layout": {"width": "17.5em"}}
    if isinstance(control, widgets.IntSlider):
        limits = {"min": control.min, "max": control.max, "step": control.step}
        partner = widgets.BoundedIntText(value=control.value, **limits, **shared)
        widgets.link((control, "max"), (partner, "max"))
    elif isinstance(control, widgets.SelectionSlider):
        partner = widgets.Dropdown(options=control.options, value=control.value, **shared)
    else:
        return control
    control.description = ""
    control.layout.width = "18em"
    for trait in ("value", "disabled"):
        widgets.link((control, trait), (partner, trait))
    row = widgets.HBox([partner, control])
    row.add_class("medu-row")
    return row


class Explorer(widgets.VBox):
    """Controls over one picture.

    Args:
        build: makes the frame from the controls' values, by name.
        controls: the controls by name; `explorer.controls["window"].value = 3` drives them.
        extras: more widgets to place between the controls and the picture.

    `picture` and `words` are the widgets that show the frame and say it.

    >>> from mistral_edu.viz import explore_reach
    >>> explorer = explore_reach(window=2, layers=1)
    >>> explorer.controls["layers"].value = 3
    >>> explorer.frame.reached
    4
    """

    def __init__(
        self,
        build: Callable[..., Frame],
        controls: dict[str, widgets.Widget],
        extras: Iterable[widgets.Widget] = (),
    ) -> None:
        self.controls = controls
        self._build = build
        self._settling = False
        self.picture, self.words = widgets.HTML(), widgets.Label()
        self.words.add_class("medu-summary")
        rows = [labelled(control) for control in controls.values()]
        super().__init__([*rows, *extras, self.picture, self.words, manners()])
        for control in controls.values():
            control.observe(self._changed, "value")
        self._changed()
        self.add_class("medu-explorer")
        self.add_class(f"medu-{self.frame.topic}")

    @property
    def values(self) -> dict[str, Any]:
        """The controls' values by name."""
        return {name: control.value for name, control in self.controls.items()}

    def adjust(self) -> None:
        """Make the controls agree with one another before a frame is built."""

    def _changed(self, _: Any = None) -> None:
        # Adjusting one control's limit can move another's value: that must not draw twice.
        if self._settling:
            return
        self._settling = True
        try:
            self.adjust()
        finally:
            self._settling = False
        self.frame = self._build(**self.values)
        self._png = figure_png(figure(self.frame))
        self.picture.value = frame_html(self.frame, self._png)
        self.words.value = self.frame.summary

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live = super()._repr_mimebundle_(**options)
        data, metadata = static_bundle(self.frame, self._png)
        return {**live, **data}, metadata

    def save_png(self, path: str | Path) -> Path:
        """Write the picture as it stands."""
        return write_whole(path, self._png)

    def save_html(self, path: str | Path) -> Path:
        """Write the picture as it stands as a page that needs no kernel and no network."""
        return write_whole(path, page(self.frame, self._png).encode("utf-8"))


class Stepper(widgets.HBox):
    """First, Back, Next, Last and Play: named buttons that move one number.

    Args:
        target: the number to move.
        interval: milliseconds between two steps while playing.

    >>> step = number("step", 0, 0, 9)
    >>> buttons = Stepper(step)
    >>> buttons.buttons["Next"].click()
    >>> step.value
    1
    """

    def __init__(self, target: widgets.IntSlider, interval: int = 1000) -> None:
        self.target = target
        self.buttons = {
            name: widgets.Button(description=name, layout={"width": "5.5em"})
            for name in ("First", "Back", "Next", "Last", "Play")
        }
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self.press(name))
        # The browser keeps the time; its own buttons have no names, so they stay hidden.
        self.clock = widgets.Play(
            value=target.value,
            min=target.min,
            max=target.max,
            interval=interval,
            layout={"display": "none"},
        )
        for trait in ("value", "max"):
            widgets.link((target, trait), (self.clock, trait))
        self.clock.observe(self._relabel, "playing")
        super().__init__([*self.buttons.values(), self.clock])

    def press(self, name: str) -> None:
        """Do what the named button does."""
        if name == "Play":
            self.clock.playing = not self.clock.playing
            return
        self.clock.playing = False
        low, now, high = self.target.min, self.target.value, self.target.max
        goal = {"First": low, "Back": now - 1, "Next": now + 1, "Last": high}[name]
        self.target.value = min(max(goal, low), high)

    def _relabel(self, change: dict[str, Any]) -> None:
        self.buttons["Play"].description = "Pause" if change["new"] else "Play"
