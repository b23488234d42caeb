"""One look for every figure: a white card that reads the same in light and dark JupyterLab.

The colours are from Okabe and Ito's colour-blind-safe set; quantities use cividis. No colour
carries a meaning alone: a number, a hatch, an outline or a label always says it too.

Conventions
    Sizes are in inches at 100 pixels per inch, so a 10-point letter is as tall as JupyterLab's own.
    Axes are placed in inches from the figure's lower left corner; nothing moves while a slider
    does, except what the slider changes.
"""

import textwrap
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

INK = "#1a1a1a"
QUIET = "#595959"
LINE = "#8c8c8c"
SHADE = "#e9e9e9"
HATCH = "#c4c4c4"
PAPER = "#ffffff"
BLUE = "#0072B2"
SKY = "#9ecae8"
VERMILLION = "#D55E00"
SEQUENTIAL = "cividis"

WIDTH = 7.6
PIXELS_PER_INCH = 100

_SHEET: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": PAPER,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.grid": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.5,
    "hatch.color": HATCH,
    "hatch.linewidth": 0.8,
    "figure.facecolor": PAPER,
    "figure.edgecolor": HATCH,
    "savefig.facecolor": "auto",
    "savefig.edgecolor": "auto",
    "image.interpolation": "nearest",
}


def sheet() -> AbstractContextManager:
    """A context in which figures have the course's look, whatever the reader's own defaults are.

    >>> with sheet():
    ...     mpl.rcParams["text.color"]
    '#1a1a1a'
    """
    return mpl.rc_context(_SHEET)


def card(height: float, title: str, width: float = WIDTH) -> Figure:
    """An empty figure with its heading, wrapped to the width and set flush left.

    Args:
        height, width: in inches.
        title: the finding.

    >>> [text.get_text() for text in card(3.0, "A finding").texts]
    ['A finding']
    """
    figure = Figure(figsize=(width, height), dpi=PIXELS_PER_INCH, linewidth=1.0)
    figure.text(
        0.15 / width,
        1 - 0.14 / height,
        "\n".join(balanced(title, int(width * 11))),
        fontsize=11,
        fontweight="bold",
        va="top",
        linespacing=1.25,
    )
    return figure


def balanced(text: str, width: int) -> list[str]:
    """Lines of about equal length, as few as `width` letters allow; no word stands alone.

    >>> balanced("seven short words, and none left alone", 34)
    ['seven short words,', 'and none left alone']
    """
    lines = textwrap.wrap(text, width)
    # Narrower and narrower, for as long as that costs no further line.
    while width > 1 and len(closer := textwrap.wrap(text, width := width - 1)) == len(lines):
        lines = closer
    return lines


def panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the figure's lower left corner.

    >>> float(panel(card(4.0, "A finding"), 1.0, 1.0, 3.0, 2.0).get_position().height)
    0.5
    """
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def bare(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> Axes:
    """Turn axes into a drawing surface: no ticks, no frame, the given limits.

    >>> bare(panel(card(4.0, "A finding"), 0, 0, 2, 2), (0, 1), (0, 5)).axison
    False
    """
    axes.set(xlim=across, ylim=up)
    axes.set_axis_off()
    return axes


def squares(axes: Axes, corners: np.ndarray, colour: str, hatch: str) -> None:
    """Unit squares at many places at once, (N, 2) lower corners, all of one look.

    >>> axes = panel(card(4.0, "A finding"), 0, 0, 2, 2)
    >>> squares(axes, np.array([[0, 0], [1, 1]]), BLUE, "")
    >>> next(iter(axes.patches)).get_path().vertices.shape
    (10, 2)
    """
    outline = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    # One path for all squares: a hatch is slow, and this way it is laid once.
    path = Path.make_compound_path_from_polys(corners[:, None] + outline)
    look: dict[str, Any] = {
        "facecolor": colour,
        "edgecolor": HATCH,
        "hatch": hatch,
        "lw": 0.8,
        "clip_on": False,
    }
    axes.add_artist(PathPatch(path, **look))


def stamp(axes: Axes, text: str, centres: np.ndarray, size: float, colour: str, bold: bool) -> None:
    """The same short text at many places at once, (N, 2) centres; far quicker than one by one.

    >>> axes = panel(card(4.0, "A finding"), 0, 0, 2, 2)
    >>> stamp(axes, "7", np.array([[0.5, 0.5], [1.5, 1.5]]), 9, INK, bold=False)
    >>> len(axes.collections[0].get_offsets())
    2
    """
    stamps = PathCollection(
        [_centred(text, size, bold)],
        offsets=centres,
        offset_transform=axes.transData,
        facecolor=colour,
        lw=0,
    )
    stamps.set_transform(Affine2D().scale(PIXELS_PER_INCH / 72))
    axes.add_collection(stamps)


@lru_cache(maxsize=256)
def _centred(text: str, size: float, bold: bool) -> Path:
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    path = TextPath((0, 0), text, size=size, prop=font)
    (left, bottom), (right, top) = path.get_extents().get_points()
    return path.transformed(Affine2D().translate(-(left + right) / 2, -(bottom + top) / 2))


def text_on(colour: tuple[float, ...]) -> str:
    """Black or white on a colour given as red, green, blue in 0..1: at least 4.5 to 1 on any.

    >>> text_on((0.0, 0.1, 0.3)), text_on((1.0, 0.9, 0.3))
    ('#ffffff', '#000000')
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return PAPER if luminance < 0.179 else "#000000"
