"""What every topic shares: figures that read, bundles a notebook can show, whole files."""

import base64
from functools import cache
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from samples import FRAMES

from mistral_edu import viz
from mistral_edu.viz import Picture, explore_mask, figure, mask_frame, show
from mistral_edu.viz.explorer import labelled, number
from mistral_edu.viz.render import draw, figure_png, frame_html, page, write_whole
from mistral_edu.viz.style import text_on

PNG = b"\x89PNG"


@pytest.fixture(params=FRAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of one sample frame."""
    return request.param


@cache
def drawing(name: str) -> Figure:
    """A sample's figure, drawn once for all tests that only look at it."""
    drawn = figure(FRAMES[name])
    FigureCanvasAgg(drawn).draw()
    return drawn


def words_of(drawn: Figure) -> list[Text]:
    """The texts a reader sees: notes, and where axes have ticks, their labels and names."""
    words = list(drawn.texts)
    for axes in drawn.axes:
        words += axes.texts
        if axes.axison:
            low, high = sorted(axes.get_xlim())
            shown = [t for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
            labels = [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
            words += [*shown, *axes.get_yticklabels(), *labels]
    return [word for word in words if word.get_text()]


def test_no_words_are_cut_off_and_none_cover_others(name: str) -> None:
    drawn = drawing(name)
    boxes = [(word, word.get_window_extent()) for word in words_of(drawn)]
    assert len(boxes) > 5
    for word, box in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= drawn.bbox.x1 and box.y1 <= drawn.bbox.y1
        assert inside, f"{word.get_text()!r} leaves the figure"
    for (one, here), (other, there) in combinations(boxes, 2):
        apart = Bbox.intersection(here.padded(-1), there.padded(-1)) is None
        assert apart, f"{one.get_text()!r} covers {other.get_text()!r}"


def test_the_heading_of_a_figure_is_the_frames_title(name: str) -> None:
    heading = drawing(name).texts[0].get_text()
    assert heading.replace("\n", " ") == FRAMES[name].title


def test_axes_that_have_ticks_name_their_quantity_and_unit(name: str) -> None:
    for axes in drawing(name).axes:
        if axes.axison:
            assert "(" in axes.get_xlabel(), axes.get_xlabel()


@pytest.mark.parametrize("name", ["window mask", "ring that evicts", "budget of the 7B", "shapes"])
def test_a_figure_looks_the_same_whatever_the_readers_defaults_are(name: str) -> None:
    plain = figure_png(drawing(name))
    theirs = {
        "text.color": "white",
        "axes.facecolor": "black",
        "axes.titlelocation": "right",
        "figure.facecolor": "black",
        "font.size": 20.0,
        "hatch.linewidth": 5.0,
    }
    with mpl.rc_context(theirs):
        assert figure_png(figure(FRAMES[name])) == plain


def test_frames_tell_themselves_apart_in_words(name: str) -> None:
    frame = FRAMES[name]
    same = [other for other in FRAMES.values() if other.summary == frame.summary]
    assert len(same) == 1
    assert frame.summary.endswith(".")
    assert "\n" not in frame.summary + frame.title
    assert frame.to_text().splitlines()[0] == frame.title
    assert not any(line.endswith(" ") for line in frame.to_text().splitlines())


def test_a_static_picture_carries_image_words_and_text(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = FRAMES[name]
    picture = show(frame)
    assert capsys.readouterr().out == frame.summary + "\n"
    data, metadata = picture._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain"}
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert data["text/plain"] == frame.to_text()
    assert metadata == {"image/png": {"alt": frame.summary}}
    assert len(data["image/png"]) < 100_000


def test_an_explorers_output_has_three_forms() -> None:
    explorer = explore_mask(window=3)
    data, metadata = explorer._repr_mimebundle_()
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert data["text/plain"] == explorer.frame.to_text()
    assert metadata["image/png"]["alt"] == explorer.frame.summary


def test_an_explorers_output_is_of_the_moment_it_is_shown() -> None:
    explorer = explore_mask(window=3)
    first = explorer._repr_mimebundle_()[0]
    explorer.controls["window"].value = 5
    second = explorer._repr_mimebundle_()[0]
    assert first["image/png"] != second["image/png"]
    assert second["text/plain"] == mask_frame(window=5).to_text()


def test_image_and_caption_change_together_in_one_widget() -> None:
    explorer = explore_mask(window=3)
    html = explorer.children[-1].value
    assert html.count(f'alt="{explorer.frame.summary}"') == 1
    assert 'aria-live="polite" style=' in html
    assert f">{explorer.frame.summary}</figcaption>" in html
    changes = []
    explorer.children[-1].observe(changes.append, "value")
    explorer.controls["window"].value = 4
    assert len(changes) == 1
    assert f'alt="{explorer.frame.summary}"' in changes[0]["new"]


def test_words_in_html_are_escaped() -> None:
    class Sharp(type(mask_frame())):
        summary = 'a < b & "c"'

    odd = Sharp(**vars(mask_frame()))
    assert 'alt="a &lt; b &amp; &quot;c&quot;"' in frame_html(odd, b"")


def test_stable_classes_let_a_test_find_the_explorer() -> None:
    assert {"medu-explorer", "medu-mask"} <= set(explore_mask()._dom_classes)


def test_a_number_is_one_value_in_a_labelled_box_and_a_slider() -> None:
    slider = number("window (tokens)", 4, 1, 12)
    box, same = labelled(slider).children
    assert same is slider
    assert box.description == "window (tokens)"
    box.value = 99
    assert slider.value == 12
    slider.max = 6
    assert (box.max, box.value) == (6, 6)
    slider.disabled = True
    assert box.disabled


def test_saved_files_stand_alone(tmp_path: Path) -> None:
    explorer = explore_mask(window=3)
    explorer.controls["window"].value = 2
    assert explorer.save_png(tmp_path / "mask.png").read_bytes().startswith(PNG)
    saved = explorer.save_html(tmp_path / "mask.html").read_text(encoding="utf-8")
    assert saved == page(explorer.frame, Picture(explorer.frame).png)
    assert "http" not in saved
    assert "window=2" in saved
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.html", "mask.png"]


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="create it, then save again"):
        write_whole(tmp_path / "absent" / "mask.png", b"")
    assert not list(tmp_path.iterdir())


def test_a_frame_without_a_drawing_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="str"):
        draw("not a frame")


@pytest.mark.parametrize("shade", np.linspace(0, 1, 33))
def test_text_on_any_age_has_readable_contrast(shade: float) -> None:
    def luminance(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    colour = mpl.colormaps["cividis"](shade)
    pair = [luminance(colour[:3]), luminance(mpl.colors.to_rgb(text_on(colour)))]
    assert (max(pair) + 0.05) / (min(pair) + 0.05) > 4.5


def test_no_picture_keeps_a_global_list_of_figures() -> None:
    sources = Path(viz.__file__).parent.glob("*.py")
    assert not [source.name for source in sources if "pyplot" in _imports(source)]


def _imports(source: Path) -> str:
    lines = source.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line.lstrip().startswith(("import ", "from ")))
