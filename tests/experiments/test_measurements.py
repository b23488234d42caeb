"""What is recorded in data/measurements says how it came about; the command makes it again."""

import json
from importlib import import_module
from inspect import signature

import pytest

from mistral_edu.cli import main
from mistral_edu.commands.experiment import EXPERIMENTS
from mistral_edu.experiments import record
from mistral_edu.experiments.record import Clock, Measurement


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_named_and_has_its_record(name):
    module = import_module(f"mistral_edu.experiments.{name}")
    needed = [p for p in signature(module.measure).parameters.values() if p.default is p.empty]
    assert not needed and callable(module.draw)
    found = record.read(name)
    assert found["command"] == f"mistral-edu experiment {name}"
    assert set(found["machine"]) == {"processor", "cores", "device", "python", "torch"}
    assert found["seconds"] > 0 and found["finding"] and found["date"]
    columns = {frozenset(row) for row in found["rows"]}
    assert len(columns) == 1
    figure = record.measurements_dir() / f"{name}.png"
    assert figure.read_bytes()[1:4] == b"PNG"


def test_a_figure_that_cannot_be_drawn_leaves_the_old_table(tmp_path):
    def broken(measurement, path):
        path.write_bytes(b"half")
        raise RuntimeError("no ink")

    (tmp_path / "recall.json").write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError, match="no ink"):
        Measurement("recall", "None.", {}, [], Clock().seconds).write(tmp_path, broken)
    assert (tmp_path / "recall.json").read_text(encoding="utf-8") == "old"
    assert not (tmp_path / "recall.png").exists()


def test_the_command_writes_a_table_and_a_figure(tmp_path, monkeypatch, capsys):
    from mistral_edu.experiments import perplexity

    rows = [{"position": 1, "loss": 0.5}]
    made = Measurement("perplexity", "It is low.", {"seed": 1}, rows, 2.0)
    monkeypatch.setattr(perplexity, "measure", lambda: made)
    monkeypatch.setattr(perplexity, "draw", lambda measurement, path: path.write_bytes(b"PNG"))
    assert main(["experiment", "perplexity", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "It is low." in said.out
    took = record.last_took("perplexity")
    assert took and said.err.startswith(f"perplexity: the recorded run took {took}")
    written = json.loads((tmp_path / "perplexity.json").read_text(encoding="utf-8"))
    assert written["rows"] == rows and written["settings"] == {"seed": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["perplexity.json", "perplexity.png"]


def test_how_long_it_took_is_told_with_the_machine(monkeypatch):
    machine = {"cores": 2, "processor": "an abacus"}
    monkeypatch.setattr(record, "read", lambda name: {"seconds": 447.5, "machine": machine})
    assert record.last_took("attention") == "7.5 minutes on 2 cores of an abacus"


def test_an_unknown_experiment_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["experiment", "gravity"])
    assert ended.value.code == 2
    assert "'recall', 'perplexity'" in capsys.readouterr().err
