"""Recall: rows give nothing away, and a stack of windows recalls to its reach and no further."""

import pytest
import torch

from mistral_edu.experiments import recall
from mistral_edu.experiments.recall_model import Case, Settings, measure_one
from mistral_edu.experiments.recall_task import FACTS, NO_ANSWER, QUESTION, draw_rows

SMALL = Settings(
    windows=(4,), layers=(1, 2), facts=(1,), seeds=(0,), steps=3, test_rows=40, workers=1
)


def drawn(facts, within=8):
    return draw_rows(torch.Generator().manual_seed(0), 50, 30, facts, within)


@pytest.mark.parametrize("facts", [1, 4])
def test_an_answer_stands_in_its_row_once_and_as_far_back_as_it_says(facts):
    rows = drawn(facts)
    assert ((rows.ids < FACTS).sum(dim=1) == facts).all()
    row, place = (rows.answers != NO_ANSWER).nonzero(as_tuple=True)
    assert len(row) > 300
    assert (rows.ids[row, place] >= QUESTION).all()
    source = rows.ids[row, place - rows.distances[row, place]]
    assert torch.equal(source, rows.answers[row, place])
    assert torch.equal(source // (FACTS // facts), rows.ids[row, place] - QUESTION)


def test_what_is_asked_before_the_fact_has_no_answer():
    rows = drawn(1)
    early = (rows.ids == QUESTION) & (rows.distances < 0)
    assert early.any() and (rows.answers[early] == NO_ANSWER).all()


def test_facts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="facts=3"):
        drawn(3)
    with pytest.raises(ValueError, match="within=2"):
        drawn(4, within=2)


def test_two_layers_recall_beyond_the_window_to_their_reach_and_then_guess():
    case = Case(window=4, layers=2, facts=1, seed=0)
    found = {
        row["distance"]: row["accuracy"]
        for row in measure_one(case, Settings(steps=90, test_rows=100))
    }
    assert max(found) == case.farthest == 9
    assert all(found[distance] > 0.9 for distance in range(1, 7))
    assert all(found[distance] < 0.2 for distance in range(7, 10))


def test_the_same_settings_give_the_same_table_and_leave_torchs_random_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = recall.measure(SMALL)
    assert torch.equal(torch.rand(1), expected)
    assert recall.measure(SMALL).rows == first.rows


def table(shares, window=3, facts=1):
    head = {"window": window, "layers": 2, "facts": facts, "seed": 0, "count": 10}
    return [head | {"distance": i, "accuracy": s} for i, s in enumerate(shares, start=1)]


def test_recall_ends_at_the_first_distance_that_fails():
    (stack,) = recall.summary(table([1.0, 0.8, 1.0, 1.0, 0.1, 0.3]))
    assert (stack["recalled"], stack["reachable"]) == (1, 4)
    assert stack["beyond"] == pytest.approx(0.2)


def test_seeds_are_averaged():
    rows = table([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    rows += [row | {"seed": 1, "accuracy": 0.7} for row in rows[2:4]]
    assert recall.summary(rows)[0]["recalled"] == 2
    assert recall.summary(rows, enough=0.8)[0]["recalled"] == 4


def test_the_finding_is_what_the_rows_say():
    said = recall.finding(
        table([1.0] * 4 + [0.0] * 2) + table([1.0, 0.0, 0.0, 0.0, 0.2, 0.2], facts=4)
    )
    assert "with 1 fact to 100% of L·(W − 1) tokens (0% right beyond; guessing: 2%)" in said
    assert "with 4 facts to 25% of L·(W − 1) tokens (20% right beyond; guessing: 6%)" in said


def test_the_table_and_the_figure_are_written(tmp_path):
    measurement = recall.measure(SMALL)
    measurement.write(tmp_path, recall.draw)
    assert {path.name for path in tmp_path.iterdir()} == {"recall.json", "recall.png"}
    keys = ["window", "layers", "facts", "seed", "distance", "accuracy", "count"]
    assert [list(row) for row in measurement.rows] == [keys] * len(measurement.rows)
