"""The card says what was measured, and what a person judged stays in it."""

import json

import pytest

from mistral_edu.cli import main
from mistral_edu.training import card, variety
from tests.training_toys import recipe_file


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(card, "SAMPLES", 2)
    monkeypatch.setattr(card, "STORIES", 4)
    monkeypatch.setattr(card, "PROBES", 2)
    monkeypatch.setattr(card, "VARIETY", (40, 5))


def test_a_finished_run_writes_its_card(tmp_path, capsys):
    config = recipe_file(tmp_path)
    (tmp_path / "limits.md").write_text("## Limits\n\nIt is a toy.\n", encoding="utf-8")
    assert main(["train", "--config", str(config)]) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    measured = json.loads((tmp_path / "measurements.json").read_text(encoding="utf-8"))
    assert f"| held-out loss, nats per token | {measured['held-out loss']} |" in text
    assert "| steps | 9 |" in text and "It is a toy." in text
    assert text.count("```text") == 2
    first = text
    assert main(["train", "--config", str(config), "--card"]) == 0
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == first


def test_a_text_has_been_seen_if_training_is_the_same(monkeypatch):
    monkeypatch.setattr(variety, "stories", lambda seed, split="train", count=0: TOLD[:count])
    figures = variety.variety(0, train=2, test=2)
    assert figures[2] == (0.5, 1.0)


class Told:
    body = " ".join("abcdefghijklmnopqrst")


TOLD = [Told, Told]
