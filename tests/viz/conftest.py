"""Fixtures of the picture tests."""

import pytest


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explorers skip drawing, so a control can be driven over every value it has.

    What a figure looks like at the edges of these ranges is tested in test_viz_render.py.
    """
    monkeypatch.setattr("mistral_edu.viz.explorer.figure", lambda frame: frame)
    monkeypatch.setattr(
        "mistral_edu.viz.explorer.figure_png", lambda frame: frame.to_text().encode("utf-8")
    )
