"""A recipe that starts from a recipe: both are followed, in order, through interruptions."""

import pytest

from mistral_edu import load
from mistral_edu.cli import main
from mistral_edu.training.follow import train
from mistral_edu.training.recipe import read_recipe
from mistral_edu.training.record import history, read_record
from tests.training_toys import RECIPE

SECOND = """
seed = 5
start_from = "first.toml"
[training]
steps = 4
rows = 2
context = 256
report_every = 10
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "first.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "second.toml").write_text(SECOND, encoding="utf-8")
    return read_recipe(tmp_path / "second.toml")


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_the_first_recipe_is_followed_first_and_its_record_is_kept(recipe, tmp_path):
    out = tmp_path / "out"
    where, record = train(recipe, out, progress=False)
    assert (where, record.steps) == (out, 4)
    assert [one.steps for one in history(recipe, out)] == [9, 4]
    assert load(out)[0].config == load(out / "first")[0].config
    assert weights(out) != weights(out / "first")


def test_a_first_part_that_is_there_is_not_trained_again(recipe, tmp_path):
    out = tmp_path / "out"
    train(recipe, out, progress=False)
    first = (out / "first/model.safetensors").stat().st_mtime_ns
    whole = weights(out)
    train(recipe, out, overwrite=True, progress=False)
    assert (out / "first/model.safetensors").stat().st_mtime_ns == first
    assert weights(out) == whole


def test_a_run_killed_between_two_parts_still_gets_the_record_of_the_first(recipe, tmp_path):
    out = tmp_path / "out"
    train(recipe, out, progress=False)
    for left in ("first.json", "training.json", "model.safetensors"):
        (out / left).unlink()
    train(recipe, out, progress=False)
    assert [one.steps for one in history(recipe, out)] == [9, 4]


def test_when_time_is_over_the_first_part_loads_and_goes_on(recipe, tmp_path, capsys):
    out, again = tmp_path / "out", tmp_path / "again"
    words = ["train", "--config", str(tmp_path / "second.toml"), "--output", str(out)]
    assert main([*words, "--max-minutes", "0.00001"]) == 0
    assert f"{out / 'first'}\n--resume goes on from here." in capsys.readouterr().out
    assert load(out / "first")[0].num_parameters() > 0
    assert not (out / "model.safetensors").exists()
    train(recipe, out, resume=True, progress=False)
    train(recipe, again, progress=False)
    assert weights(out) == weights(again)


def test_the_command_tells_that_the_first_part_has_not_seen_stories_yet(recipe, tmp_path, capsys):
    drills = "\n[[curriculum]]\nstep = 0\nfarthest = 40\nshares = { chant = 1 }\n"
    text = RECIPE.replace("steps = 9", "steps = 9999").replace("every = 4", "every = 1")
    (tmp_path / "first.toml").write_text(text + drills, encoding="utf-8")
    words = ["train", "--config", str(tmp_path / "second.toml"), "--output", str(tmp_path / "out")]
    assert main([*words, "--max-minutes", "0.01"]) == 0
    said = capsys.readouterr().out
    for end in ("\n", f": {tmp_path / 'out/first'}\n"):  # of a report, of the last line
        assert f" (over whole stories; so far only chant was shown){end}" in said


def test_three_recipes_are_followed_one_after_the_other(recipe, tmp_path):
    third = SECOND.replace("first", "second").replace("steps = 4", "steps = 1")
    (tmp_path / "third.toml").write_text(third, encoding="utf-8")
    last, out = read_recipe(tmp_path / "third.toml"), tmp_path / "out"
    where, record = train(last, out, max_minutes=1e-6, progress=False)
    assert (where, record.steps) == (out / "second/first", 0)
    train(last, out, resume=True, progress=False)
    assert [one.steps for one in history(last, out)] == [9, 4, 1]
    train(recipe, tmp_path / "two", progress=False)
    assert weights(out / "second") == weights(tmp_path / "two")


@pytest.mark.parametrize("where", ["", "first"])
def test_a_model_that_is_there_is_replaced_only_if_that_is_said(tmp_path, recipe, capsys, where):
    out, held = tmp_path / "out", tmp_path / "out" / where
    held.mkdir(parents=True)
    (held / "model.safetensors").write_bytes(b"another model")
    words = ["train", "--config", str(tmp_path / "second.toml"), "--output", str(out)]
    assert main(words) == 2
    said = f"{held} holds a model already: choose another --output, or give --overwrite"
    assert said in capsys.readouterr().err
    assert weights(held) == b"another model"
    assert main([*words, "--overwrite", "--max-minutes", "0.00001"]) == 0
    assert load(out / "first")[0].num_parameters() > 0


def test_a_model_without_a_record_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train the model there first"):
        read_record(tmp_path / "training.json")
