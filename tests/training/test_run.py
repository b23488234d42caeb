"""A training run: killed at any moment it ends in the same bits, and what it writes loads."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from mistral_edu import load
from mistral_edu.cli import main
from mistral_edu.training.checkpoint import CheckpointError
from mistral_edu.training.loop import Trainer
from mistral_edu.training.recipe import read_recipe
from mistral_edu.training.run import Run
from tests.training_toys import RECIPE, recipe_file

# Kill without warning: before a step, or while a checkpoint is half written.
DYING = """
import os, signal, sys, torch
from mistral_edu.training import loop
from mistral_edu.training.recipe import read_recipe
from mistral_edu.training.run import Run
step, moment, config, output, resume = sys.argv[1:]
def die(): os.kill(os.getpid(), signal.SIGKILL)
learn, save = loop.Trainer.learn, torch.save
def dying_learn(self, batch):
    return die() if moment == "learning" and self.step == int(step) else learn(self, batch)
def dying_save(state, file):
    if moment == "saving" and state["step"] == int(step):
        file.write(b"half"); file.flush(); die()
    return save(state, file)
loop.Trainer.learn, torch.save = dying_learn, dying_save
from pathlib import Path
Run(read_recipe(config), Path(output), resume=bool(resume)).go(progress=False)
"""


def train_until_killed(step, moment, config, output, resume):
    words = [str(step), moment, str(config), str(output), "yes" if resume else ""]
    done = subprocess.run([sys.executable, "-c", DYING, *words], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    Run(read_recipe(recipe_file(folder)), folder / "out").go(progress=False)
    return folder / "out"


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_run_killed_three_times_ends_in_the_same_bits(tmp_path, uninterrupted):
    config, output = recipe_file(tmp_path), tmp_path / "out"
    train_until_killed(4, "learning", config, output, resume=False)
    train_until_killed(6, "saving", config, output, resume=True)
    train_until_killed(8, "learning", config, output, resume=True)
    Run(read_recipe(config), output, resume=True).go(progress=False)
    assert weights(output) == weights(uninterrupted)
    assert not (output / "training").exists()


def test_stopping_early_leaves_a_model_and_a_way_to_go_on(tmp_path, uninterrupted):
    config, output = recipe_file(tmp_path), tmp_path / "out"
    stopped = Run(read_recipe(config), output).go(max_minutes=1e-6, progress=False)
    assert stopped.steps == 0
    model, tokenizer = load(output)
    assert model(torch.tensor([tokenizer.encode("Zoé")])).logits.isfinite().all()
    Run(read_recipe(config), output, resume=True).go(progress=False)
    assert weights(output) == weights(uninterrupted)


def test_ctrl_c_in_the_midst_of_a_step_loses_nothing(tmp_path, uninterrupted, capsys):
    config, output = recipe_file(tmp_path), tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        follow = Trainer._follow

        def pressed(trainer):
            if trainer.step == 1:
                signal.raise_signal(signal.SIGINT)
            follow(trainer)

        patch.setattr(Trainer, "_follow", pressed)
        assert main(["train", "--config", str(config), "--output", str(output)]) == 130
    said = f"mistral-edu: stopped at step 2; --resume goes on from {output / 'training'}\n"
    assert capsys.readouterr().err.endswith(said)
    Run(read_recipe(config), output, resume=True).go(progress=False)
    assert weights(output) == weights(uninterrupted)


def test_the_record_tells_every_step(uninterrupted):
    import json

    record = json.loads((uninterrupted / "training.json").read_text(encoding="utf-8"))
    assert record["steps"] == len(record["losses"]) == 9
    assert [step for step, _ in record["held_out"]] == [4, 8, 9]
    assert record["losses"][-1] < record["losses"][0]


def test_a_checkpoint_is_not_overwritten_by_accident(tmp_path):
    config = recipe_file(tmp_path)
    Run(read_recipe(config), tmp_path / "out").go(max_minutes=1e-6, progress=False)
    with pytest.raises(CheckpointError, match="go on with --resume, or remove the folder"):
        Run(read_recipe(config), tmp_path / "out")


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    Run(read_recipe(recipe_file(tmp_path)), tmp_path / "out").go(max_minutes=1e-6, progress=False)
    other = recipe_file(tmp_path, RECIPE.replace("seed = 1", "seed = 2"))
    with pytest.raises(CheckpointError, match="made by another recipe"):
        Run(read_recipe(other), tmp_path / "out", resume=True)


def test_resuming_nothing_and_a_damaged_checkpoint_are_refused(tmp_path, capsys):
    config = recipe_file(tmp_path)
    words = ["train", "--config", str(config), "--output", str(tmp_path / "out"), "--resume"]
    assert main(words) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    (tmp_path / "out/training").mkdir(parents=True)
    (tmp_path / "out/training/checkpoint.pt").write_bytes(b"half")
    assert main(words) == 2
    assert "is not a checkpoint" in capsys.readouterr().err


def test_the_command_draws_the_curve_and_a_chat_model_goes_on_from_it(tmp_path, capsys):
    (tmp_path / "base").mkdir()
    (tmp_path / "chat").mkdir()
    config = recipe_file(tmp_path / "base")
    assert main(["train", "--config", str(config), "--max-minutes", "0.02"]) == 0
    assert (tmp_path / "base/loss_curve.png").read_bytes()[1:4] == b"PNG"
    chat = 'kind = "dialogues"\nstart_from = "../base"\n[training]\nsteps = 2\ncontext = 256\n'
    Run(read_recipe(recipe_file(tmp_path / "chat", chat)), tmp_path / "chat").go(progress=False)
    assert load(tmp_path / "chat")[0].config == load(tmp_path / "base")[0].config
    assert weights(tmp_path / "chat") != weights(tmp_path / "base")
