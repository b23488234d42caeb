"""A recipe says what is wrong with it, and never trains something else than it says."""

import pytest
import torch

from mistral_edu.paths import data_dir
from mistral_edu.training.recipe import RecipeError, TrainingOptions, read_recipe
from mistral_edu.training.record import parts
from tests.training_toys import RECIPE, recipe_file

STAGE = "[[curriculum]]\nstep = 0\nfarthest = 9\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("seed = ", "is not TOML"),
        ("sed = 3", r"training.toml: sed is no setting: did you mean seed\?"),
        ("[training]\nstep = 3", r"\[training\] step is no setting: did you mean steps\?"),
        ("[model]\nfoo = 1", r"\[model\] foo is no setting: choose from hidden_size"),
        ("[model]\nhiden_size = 1", r"\[model\] hiden_size .* did you mean hidden_size\?"),
        ("[model]\nvocab_size = 9", r"\[model\] vocab_size .* here: give it above the tables"),
        ("[modle]", r"modle is no setting: did you mean model\?"),
        ("", r"training.toml: \[model\] hidden_size, .*_heads are missing: give them"),
        (RECIPE.replace("hidden_size = 32", ""), r"\[model\] hidden_size is missing: give it"),
        (RECIPE.replace("num_hidden_layers = 2", "num_hidden_layers = 0"), "num_hidden_layers=0"),
        ('seed = "x"', "training.toml: seed is 'x', expected a whole number"),
        ("seed = true", "seed is True, expected a whole number"),
        ("start_from = 3", "start_from is 3, expected a path in quotes"),
        ('[training]\nrows = "x"', r"\[training\] rows is 'x', expected a whole number"),
        ("training = 3", r"\[training\] is 3, expected a table"),
        ("model = 3", "model is 3, expected a table"),
        ("curriculum = 3", "curriculum is 3, expected a list"),
        ("[[curriculum]]\nstep = 0", r"\[\[curriculum\]\] farthest is missing"),
        (STAGE + "shares = { chnat = 1 }", "shares: chnat is no kind of text: did you mean chant"),
        (STAGE + "shares = { chant = 'x' }", "shares: chant is 'x', expected a number"),
        ('begun = ["story"]', r"begun: story is no kind of text: did you mean stories\?"),
        ("[training]\nsteps = 0", "training.steps is 0, expected 1 or more"),
        ("[training]\nlearning_rate = 0.0", "training.learning_rate is 0.0, expected above 0"),
        ('[training]\nprecision = "half"', "training.precision is 'half', expected one of"),
        ('kind = "poems"', "kind is 'poems', expected one of"),
    ],
)
def test_a_faulty_recipe_is_refused(tmp_path, text, complaint):
    with pytest.raises(RecipeError, match=complaint):
        read_recipe(recipe_file(tmp_path, text))


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recipe at .*nowhere.toml"):
        read_recipe(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_an_automatic_precision_is_low_where_low_is_fast(monkeypatch, fast, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast}, raising=False)
    assert TrainingOptions(precision="auto").dtype == dtype
    assert TrainingOptions().dtype == torch.float32
    assert TrainingOptions(precision="bfloat16").dtype == torch.bfloat16


def test_start_from_is_found_beside_the_recipe(tmp_path):
    recipe = read_recipe(recipe_file(tmp_path, 'start_from = "../base"'))
    assert recipe.start_from == tmp_path / "../base"


def test_the_architecture_has_the_recipe_s_sizes(tmp_path):
    config = read_recipe(recipe_file(tmp_path, RECIPE)).config()
    assert (config.vocab_size, config.sliding_window, config.group_size) == (500, 16, 4)


def test_the_course_s_own_recipes_can_be_read():
    tiny = read_recipe(data_dir() / "tiny" / "lookups.toml")
    config = tiny.config()
    assert config.num_hidden_layers >= 6 and config.group_size >= 4
    assert 2048 <= config.vocab_size <= 4096
    assert config.sliding_window * 8 <= tiny.training.context
    whole = read_recipe(data_dir() / "tiny" / "training.toml")
    assert [part.stem for part in parts(whole)] == ["lookups", "stories"]
    all_parts = [*(read_recipe(part) for part in parts(whole)), whole]
    assert {part.training.context for part in all_parts} == {tiny.training.context}
    assert len({part.seed for part in all_parts}) == len(all_parts)
    chat = read_recipe(data_dir() / "tiny-instruct" / "training.toml")
    assert chat.kind == "dialogues" and chat.start_from.resolve().name == "tiny"
