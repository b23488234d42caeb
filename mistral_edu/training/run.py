"""One training run, from a recipe to a folder with a model, through any number of interruptions.

    recipe → tokenizer, model → steps, each: batch, learn; sometimes: checkpoint, report → folder

Lesson: 10_heads_and_training.

Conventions
    The checkpoint lies in `training/` under the output folder until the last step is done. A run
    that stops early leaves a model that loads and a checkpoint to go on from. Killing the process
    at any moment loses the steps since the last checkpoint, and doing them again gives the same
    bits. Ctrl-C loses none: the step under way is ended first, for half a step cannot be resumed.
"""

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm.auto import tqdm

from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training import banded, checkpoint
from mistral_edu.training.batches import Batch
from mistral_edu.training.chat_evaluation import dialogue_items
from mistral_edu.training.checkpoint import CheckpointError
from mistral_edu.training.curriculum import batch_at, held_out_batches, still_unseen
from mistral_edu.training.evaluation import Item, brief_items, mark, shares, story_items
from mistral_edu.training.loop import Trainer, held_out_loss
from mistral_edu.training.parallel import one_thread_each
from mistral_edu.training.recipe import Recipe
from mistral_edu.training.record import RECORD, Record, start_folder, write_record
from mistral_edu.training.world import stories
from mistral_edu.weights.whole_files import uninterrupted, whole_file

ASKED = "Question:"  # what follows a text
TEMPERATURE = 0.5


class Run:
    """A run in a folder.

    Args:
        recipe: what to train.
        output: the folder; made if absent.
        resume: go on from the checkpoint there.

    Raises:
        CheckpointError: a checkpoint is there but `resume` is False, or it is of another recipe.
        FileNotFoundError: `resume` is True and there is none.
    """

    def __init__(self, recipe: Recipe, output: Path, *, resume: bool = False) -> None:
        self.recipe, self.output = recipe, output
        self.folder = output / "training"
        if not resume and (self.folder / checkpoint.FILE).exists():
            raise CheckpointError(
                f"{self.folder} holds a checkpoint: go on with --resume, or remove the folder"
            )
        torch.manual_seed(recipe.seed)
        model, self.tokenizer = prepare(recipe, output)
        self.window = model.config.sliding_window or recipe.training.context
        self.trainer = Trainer(model, recipe.training)
        self.record = Record(describe(recipe), 0, 0, 0.0, [], [], [])
        if resume:
            self._restore()
        self.asked = self._questions()
        self.held_out = held_out_batches(recipe, self.tokenizer, self.window)

    @property
    def model(self) -> MistralForCausalLM:
        """The model in training."""
        return self.trainer.model

    def _questions(self) -> list[Item]:
        if self.recipe.kind == "dialogues":
            return dialogue_items(self.tokenizer, None, self.recipe.seed, 60)
        items = story_items(self.tokenizer, self.recipe.seed, 60, self.window)
        return items + brief_items(self.tokenizer, 60)

    def _restore(self) -> None:
        state = checkpoint.read(self.folder)
        record = Record(**state.pop("record"))
        if record.recipe != self.record.recipe:
            raise CheckpointError(
                f"the checkpoint in {self.folder} was made by another recipe ({record.recipe}); "
                f"remove the folder to train this one ({self.record.recipe})"
            )
        self.record = record
        self.trainer.restore(state)

    def checkpoint(self) -> None:
        """Write everything the rest of the run depends on."""
        state = self.trainer.state() | {"record": asdict(self.record)}
        checkpoint.write(self.folder, state)

    def go(self, max_minutes: float | None = None, *, progress: bool = True) -> Record:
        """Train until the recipe's last step or until the time is over, and write the model.

        Args:
            max_minutes: stop after so long, loading not counted; None for no limit.
            progress: show a live bar, and samples on the way.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once a checkpoint is written; says where it stopped.
        """
        try:
            with one_thread_each():
                self._train(max_minutes, progress)
                self.finish()
        except KeyboardInterrupt:
            self.checkpoint()
            raise KeyboardInterrupt(
                f"stopped at step {self.trainer.step}; --resume goes on from {self.folder}"
            ) from None
        return self.record

    def _train(self, max_minutes: float | None, progress: bool) -> None:
        options, started = self.recipe.training, time.monotonic()
        with tqdm(
            total=options.steps,
            initial=self.trainer.step,
            disable=not progress,
            unit="step",
            desc="training",
        ) as bar:
            while self.trainer.step < options.steps:
                begun = time.monotonic()
                if max_minutes is not None and begun - started >= max_minutes * 60:
                    break
                batch = batch_at(self.recipe, self.tokenizer, self.trainer.step, self.window)
                with uninterrupted():
                    loss = self.trainer.learn(batch)
                    self._note(batch, loss, time.monotonic() - begun)
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}")
                if self.trainer.step % options.report_every == 0:
                    self._report(bar)
                if self.trainer.step % options.checkpoint_every == 0:
                    self.checkpoint()

    def _note(self, batch: Batch, loss: float, seconds: float) -> None:
        self.record.steps = self.trainer.step
        self.record.tokens += int((batch.positions >= 0).sum())
        self.record.seconds += seconds
        self.record.losses.append(round(loss, 4))

    def _report(self, bar: tqdm) -> None:
        loss = held_out_loss(self.model, self.held_out)
        self.record.held_out.append((self.trainer.step, round(loss, 4)))
        shares = self._answers()
        self.record.answers.append((self.trainer.step, shares))
        if not bar.disable:
            bar.write(f"answers: {shares}")
            text = sample(self.model, self.tokenizer, seed=self.trainer.step, length=80)
            why = still_unseen(self.recipe, self.trainer.step)
            bar.write(f"step {self.trainer.step}: held-out loss {loss:.3f}{why}\n{text}\n")

    def _answers(self) -> dict[str, float]:
        """The share of held-out questions that the model answers, of those about stories by where
        the answer lies."""
        return {
            name: round(share, 3)
            for name, (share, count) in shares(self.asked, mark(self.model, self.asked)).items()
        }

    def finish(self) -> None:
        """Write tokenizer, model and record; drop the checkpoint if every step is done."""
        if not self.record.held_out or self.record.held_out[-1][0] != self.trainer.step:
            loss = held_out_loss(self.model, self.held_out)
            self.record.held_out.append((self.trainer.step, round(loss, 4)))
        if self.trainer.step < self.recipe.training.steps:
            self.checkpoint()
        self.model.eval()
        self.tokenizer.save(self.output)
        self.model.save_pretrained(self.output, dtype=torch.float16)
        write_record(self.record, self.output / RECORD)
        if self.trainer.step >= self.recipe.training.steps:
            shutil.rmtree(self.folder, ignore_errors=True)


def prepare(recipe: Recipe, output: Path) -> tuple[MistralForCausalLM, MistralTokenizer]:
    """Make or load the model and the tokenizer that a recipe begins with."""
    attention = banded.register()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if (start := start_folder(recipe, output)) is not None:
        tokenizer = MistralTokenizer.from_pretrained(start)
        model = MistralForCausalLM.from_pretrained(
            start, dtype=torch.float32, device=device, attention=attention
        )
        return model, tokenizer
    told = stories(recipe.seed, count=recipe.vocabulary_stories)
    tokenizer = MistralTokenizer.train((story.text for story in told), recipe.vocab_size)
    return MistralForCausalLM(recipe.config(), attention).to(device), tokenizer


def describe(recipe: Recipe) -> str:
    """A recipe as one line of text, without the place where its files lie."""
    fields = asdict(recipe)
    fields["start_from"] = recipe.start_from.name if recipe.start_from else None
    return json.dumps(fields, sort_keys=True)


def sample(
    model: MistralForCausalLM, tokenizer: MistralTokenizer, seed: int, length: int = 300
) -> str:
    """A text that the model makes up from the begin token alone, without the questions after it."""
    model.eval()
    start = torch.tensor([[tokenizer.bos_id]], device=model.device)
    ids = model.generate(
        start,
        max_new_tokens=length,
        do_sample=True,
        temperature=TEMPERATURE,
        seed=seed,
        stop_strings=ASKED,
        tokenizer=tokenizer,
    )
    return tokenizer.decode(ids[0].tolist()).partition(ASKED)[0].strip()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode())
