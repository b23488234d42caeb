"""What every topic shares: figures that read, bundles a notebook can show, whole files."""

import base64
import html
import re
import textwrap
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
from mistral_edu.viz import (
    Picture,
    explore_budget,
    explore_mask,
    explore_reach,
    explore_ring,
    explore_roofline,
    explore_shards,
    explore_tiles,
    figure,
    mask_frame,
    show,
)
from mistral_edu.viz.accessible import HIDDEN
from mistral_edu.viz.explorer import doublings, labelled, number
from mistral_edu.viz.mask import KINDS
from mistral_edu.viz.render import (
    NARROWEST,
    Words,
    draw,
    figure_png,
    frame_html,
    page,
    write_whole,
)
from mistral_edu.viz.style import balanced, text_on

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
            (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
            words += [t for t in axes.get_xticklabels() if left <= t.get_position()[0] <= right]
            words += [t for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high]
            words += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
    return [word for word in words if word.get_text()]


def test_no_words_are_cut_off_and_none_cover_others(name: str) -> None:
    expect_clear_words(drawing(name))


EXPLORERS = {
    **{kind: lambda kind=kind: explore_mask(kind) for kind in KINDS},
    "reach": explore_reach,
    "ring": lambda: explore_ring(window=4, prompt=9, chunk=3, step=2),
    "budget": explore_budget,
    "tiles": lambda: explore_tiles(window=6, tile=4, step=5),
    "shards": explore_shards,
    "roofline": explore_roofline,
}


@pytest.mark.parametrize("topic", EXPLORERS)
def test_no_words_are_cut_off_at_either_end_of_a_control(
    topic: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("undrawn")  # Only the frames, which are drawn below.
    explorer = EXPLORERS[topic]()
    for name, control in explorer.controls.items():
        if name == "kind" or control.disabled:
            continue
        trait = "index" if hasattr(control, "options") else "value"
        last = len(control.options) - 1 if trait == "index" else control.max
        for end in (last, 0 if trait == "index" else control.min):
            setattr(control, trait, end)
            drawn = figure(explorer.frame)
            FigureCanvasAgg(drawn).draw()
            expect_clear_words(drawn)
        setattr(control, trait, last)  # Later controls meet the fullest picture.


def expect_clear_words(drawn: Figure) -> None:
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
    assert not re.search(r"\w=\w", frame.summary), "plain words, not a dump of fields"
    assert "\n" not in frame.summary + frame.title
    assert frame.to_text().splitlines()[0] == frame.title
    assert not any(line.endswith(" ") for line in frame.to_text().splitlines())


def test_a_static_picture_carries_image_words_and_text(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = FRAMES[name]
    picture = show(frame)
    assert capsys.readouterr().out == frame.summary + "\n"  # Where there is no page to hide on.
    data, metadata = picture._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain"}
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert data["text/plain"] == frame.to_text()
    assert metadata == {"image/png": {"alt": frame.summary, "unconfined": True}}
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


def test_image_and_words_change_once_and_agree() -> None:
    explorer = explore_mask(window=3)
    changes = []
    for widget in (explorer.picture, explorer.words):
        widget.observe(changes.append, "value")
    explorer.controls["window"].value = 4
    assert [change["owner"] for change in changes] == [explorer.picture, explorer.words]
    assert explorer.picture.value.count(f'alt="{explorer.frame.summary}"') == 1
    assert explorer.words.value == explorer.frame.summary


def test_words_are_said_and_not_shown() -> None:
    explorer = explore_mask(window=3)
    assert "medu-summary" in explorer.words._dom_classes
    assert explorer.frame.summary not in re.sub(r'alt="[^"]*"', "", explorer.picture.value)
    assert f".medu-summary{{{HIDDEN}}}" in html.unescape(explorer.children[-1].value)
    spoken = Words("a < b")._repr_html_()
    assert spoken.endswith(f'<p class="medu-words" style="{HIDDEN}">a &lt; b</p>')
    assert "display:none" not in HIDDEN  # That would silence it too.


def test_a_picture_shrinks_with_its_place_and_then_its_container_scrolls() -> None:
    markup, sheet = frame_html(mask_frame(), b""), Words("a cone")._repr_html_()
    fitted = f"max-width:100%;min-width:{NARROWEST}px;height:auto"
    assert re.search(r"<figure[^>]*overflow-x:auto", markup)
    assert re.search(rf"<img[^>]*{fitted}", markup)
    assert re.search(rf"<style>[^<]*:has\(.medu-words\) img[^<]*{{{fitted}}}</style>", sheet)


def test_every_row_with_a_slider_has_the_label_that_will_name_it() -> None:
    for explorer in (
        explore_mask(),
        explore_reach(),
        explore_ring(),
        explore_budget(),
        explore_tiles(),
        explore_shards(),
    ):
        rows = [row for row in explorer.children if "medu-row" in row._dom_classes]
        sliders = [c for c in explorer.controls.values() if hasattr(c, "readout")]
        assert [row.children[1] for row in rows] == sliders
        assert all(row.children[0].description for row in rows)


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


def test_a_doubling_is_one_value_in_a_labelled_list_and_a_slider() -> None:
    slider = doublings("context (tokens)", 4, 1, 16)
    choices, same = labelled(slider).children
    assert same is slider
    assert choices.description == "context (tokens)"
    choices.value = 16
    assert slider.value == 16
    slider.index = 0
    assert choices.value == 1


@pytest.mark.parametrize("width", [1, 2, 9, 20, 83])
def test_balanced_lines_are_as_few_and_leave_no_word_alone(width: int) -> None:
    text = "Left padding, window 16: 1 pair; nothing seen by or of 15 padding rows"
    lines = balanced(text, width)
    assert len(lines) == len(textwrap.wrap(text, width))
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if width == 83:
        assert lines == [text]
    if width == 20:
        assert max(map(len, lines)) - min(map(len, lines)) < 8


def test_saved_files_stand_alone(tmp_path: Path) -> None:
    explorer = explore_mask(window=3)
    explorer.controls["window"].value = 2
    assert explorer.save_png(tmp_path / "mask.png").read_bytes().startswith(PNG)
    saved = explorer.save_html(tmp_path / "mask.html").read_text(encoding="utf-8")
    assert saved == page(explorer.frame, Picture(explorer.frame).png)
    assert "http" not in saved
    assert "a window of 2" in saved
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
