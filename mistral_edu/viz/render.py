"""From a frame to what a notebook, a browser or a file can show.

    frame → figure → PNG bytes → HTML <figure> with alternative text, or a saved file

Each topic registers its drawing with `@draw.register`; nothing here knows any topic, and nothing
uses pyplot, so no figure outlives its cell.
"""

import base64
import html
import io
import os
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mistral_edu.viz.accessible import HIDDEN
from mistral_edu.viz.frame import Frame
from mistral_edu.viz.style import sheet

# A picture shrinks with its place while its letters can be read; then it is scrolled to.
NARROWEST = 560  # pixels
_FITTED = f"max-width:100%;min-width:{NARROWEST}px;height:auto"
_SCROLLED = "margin:4px 0;max-width:100%;overflow-x:auto"
_CARD = f"display:block;box-sizing:border-box;{_FITTED};border:1px solid #c4c4c4;border-radius:4px"
# The same for a picture that JupyterLab itself places, in the cell where its words are.
_SHEET = f".jp-OutputArea:has(.medu-words) img.jp-mod-unconfined{{{_FITTED}}}"


@singledispatch
def draw(frame: Frame) -> Figure:
    """The drawing of one kind of frame; each topic registers its own."""
    raise TypeError(
        f"no drawing is registered for {type(frame).__name__}: import its module from "
        "mistral_edu.viz first"
    )


def figure(frame: Frame) -> Figure:
    """Draw a frame: the one figure used on the page, in the widget and in files.

    >>> from mistral_edu.viz import reach_frame
    >>> [axes.get_xlabel() for axes in figure(reach_frame(window=2, layers=1)).axes]
    ['input position (token index)']
    """
    with sheet():
        return draw(frame)


def figure_png(drawn: Figure) -> bytes:
    """A figure as PNG bytes, with nothing in them that names a program or a time.

    A palette of 128 colours keeps a lesson's pictures to a third of their size.

    >>> from mistral_edu.viz import reach_frame
    >>> figure_png(figure(reach_frame(window=2, layers=1)))[1:4]
    b'PNG'
    """
    canvas = FigureCanvasAgg(drawn)
    with sheet():
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(128, method=Image.Quantize.FASTOCTREE).save(buffer, format="png")
    return buffer.getvalue()


def frame_html(frame: Frame, png: bytes) -> str:
    """A frame as one HTML figure, as wide as the page; scrolled sideways where that is too narrow.

    >>> from mistral_edu.viz import reach_frame
    >>> frame_html(reach_frame(window=2, layers=1), b"").count("alt=")
    1
    """
    words = html.escape(frame.summary, quote=True)
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure class="medu-figure" style="{_SCROLLED}">'
        f'<img alt="{words}" src="data:image/png;base64,{data}" style="{_CARD}"></figure>'
    )


def static_bundle(frame: Frame, png: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """A frame as Jupyter output data and metadata: the PNG with its words, and the text.

    >>> from mistral_edu.viz import reach_frame
    >>> data, metadata = static_bundle(reach_frame(window=2, layers=1), b"")
    >>> sorted(data), metadata["image/png"]["alt"][:9]
    (['image/png', 'text/plain'], 'The reach')
    """
    image = base64.b64encode(png).decode("ascii")
    return (
        {"text/plain": frame.to_text(), "image/png": image},
        # Confined, it would shrink to any page, until its letters cannot be read.
        {"image/png": {"alt": frame.summary, "unconfined": True}},
    )


class Words:
    """Words that are read aloud and not seen; where there is no page, plain text.

    >>> Words("a cone")
    a cone
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        words = f'<p class="medu-words" style="{HIDDEN}">{html.escape(self.text)}</p>'
        return f"<style>{_SHEET}</style>{words}"


class Picture:
    """A frame drawn once; the last value of a cell shows it.

    >>> from mistral_edu.viz import reach_frame
    >>> print(Picture(reach_frame(window=2, layers=1)))
    Through 1 layer of window 2, the last position hears 2 inputs: 1 + 1·(2−1) = 2
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.png = figure_png(figure(frame))

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return static_bundle(self.frame, self.png)

    def __str__(self) -> str:
        return self.frame.title

    def save_png(self, path: str | Path) -> Path:
        """Write the image; see `write_whole`."""
        return write_whole(path, self.png)

    def save_html(self, path: str | Path) -> Path:
        """Write a page that stands alone: image, summary and text, no network."""
        return write_whole(path, page(self.frame, self.png).encode("utf-8"))


def show(frame: Frame) -> Picture:
    """Say a frame to those who listen and return its picture, for the last line of a cell.

    JupyterLab gives an image in an output no alternative text, so the words are an output of
    their own, out of sight.

    >>> from mistral_edu.viz import reach_frame
    >>> show(reach_frame(window=2, layers=1)).frame.reached
    The reach of the last of 4 positions through 1 layer of window 2: a cone that widens downward.
    Positions in it, row by row from the top to the input: 1 and 2. The formula says
    1 + 1·(2−1) = 2.
    2
    """
    display(Words(frame.summary))
    return Picture(frame)


def page(frame: Frame, png: bytes) -> str:
    """A stand-alone HTML page of one frame.

    >>> from mistral_edu.viz import reach_frame
    >>> page(reach_frame(window=2, layers=1), b"").startswith("<!doctype html>")
    True
    """
    title = html.escape(frame.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"</head><body>{frame_html(frame, png)}<pre>{html.escape(frame.to_text())}</pre>"
        "</body></html>\n"
    )


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write a file completely or not at all, and return its path.

    Raises:
        FileNotFoundError: if the folder does not exist.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(f"{folder}/a.txt", b"whole").read_bytes()
    b'whole'
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {path.parent} does not exist: create it, then save again")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    return path
