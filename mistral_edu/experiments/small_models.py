"""Small models trained for a question's sake: equal batches, different architectures.

    (seed, step)  ->  the same tokens in the same rows for every model;  positions by its own window

Where documents go in a row depends on their lengths alone. A model's window only decides how far
apart their positions are, so models of different windows learn from exactly the same tokens.
Lesson: 15_long_context.

Conventions
    One tokenizer and one set of held-out texts serve all seeds: losses can be compared. A seed
    decides the first weights and the training texts, which are stories of every kind. Each token
    counts 1, those of answers too. The learning rate falls in the last third of the steps.
    A model computes with one thread; several models are trained at once, each in its own process.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import torch
from tqdm.auto import tqdm

from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training import banded
from mistral_edu.training.batches import Batch
from mistral_edu.training.curriculum import batch_at, held_out_batches
from mistral_edu.training.loop import Trainer
from mistral_edu.training.parallel import one_thread_each
from mistral_edu.training.recipe import Recipe, TrainingOptions
from mistral_edu.training.world import stories

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 16,
    "sliding_window": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
Job = TypeVar("Job")
Answer = TypeVar("Answer")


def recipe_for(seed: int, steps: int, model: Mapping[str, Any]) -> Recipe:
    """The recipe of one small model.

    Args:
        seed: of the weights and of every batch.
        steps: how many batches of 2 rows of 512 tokens.
        model: fields of `MistralConfig` that differ from `SHAPE`.

    >>> recipe = recipe_for(3, 900, {"num_key_value_heads": 2})
    >>> recipe.model["num_key_value_heads"], recipe.model["num_attention_heads"]
    (2, 8)
    >>> [stage.shares for stage in recipe.curriculum]
    [{'stories': 1.0}]
    """
    return Recipe(
        seed=seed,
        vocab_size=1024,
        vocabulary_stories=500,
        model={**SHAPE, **model},
        training=TrainingOptions(
            steps=steps,
            rows=2,
            context=512,
            warmup=max(1, steps // 30),
            decay_steps=steps // 3,
            answer_weight=1.0,
            precision="auto",
            workers=1,
        ),
    )


def tokenizer_for(recipe: Recipe) -> MistralTokenizer:
    """The tokenizer of all small models: learned from the stories of seed 0, whatever the recipe's.

    >>> recipe = replace(recipe_for(5, 30, {}), vocab_size=400, vocabulary_stories=20)
    >>> tokenizer_for(recipe).vocab_size
    400
    """
    told = stories(0, count=recipe.vocabulary_stories)
    return MistralTokenizer.train((story.text for story in told), recipe.vocab_size)


def fresh_model(recipe: Recipe) -> MistralForCausalLM:
    """A model with weights drawn from the recipe's seed.

    >>> one, other = (fresh_model(recipe_for(1, 30, {})).lm_head.weight for _ in range(2))
    >>> torch.equal(one, other)
    True
    """
    torch.manual_seed(recipe.seed)
    config = recipe.config()
    # From one document to the next, positions jump by a window: they go beyond the row's length.
    config.max_position_embeddings = recipe.training.context * (config.sliding_window or 1)
    return MistralForCausalLM(config, banded.register())


def window_of(model: MistralForCausalLM) -> int:
    """W of a model that has a window.

    Raises:
        ValueError: it has none.

    >>> window_of(fresh_model(recipe_for(0, 30, {"sliding_window": 32})))
    32
    """
    window = model.config.sliding_window
    if window is None:
        raise ValueError("sliding_window is None: these rows are packed with a window, choose one")
    return window


def learn(
    trainer: Trainer, recipe: Recipe, tokenizer: MistralTokenizer, steps: int, first: int = 0
) -> None:
    """Take some steps of training.

    Args:
        trainer: with the model, packed for by its own window.
        recipe: decides what each batch holds.
        tokenizer: encodes it.
        steps: how many to take.
        first: the number of the batch that the trainer's step 0 learns from.
    """
    for _ in range(steps):
        number = first + trainer.step
        trainer.learn(batch_at(recipe, tokenizer, number, window_of(trainer.model)))


def held_out(recipe: Recipe, tokenizer: MistralTokenizer, window: int, rows: int) -> list[Batch]:
    """Held-out stories, the same for every seed, packed for a window.

    >>> recipe = replace(recipe_for(5, 30, {}), vocab_size=400, vocabulary_stories=20)
    >>> (batch,) = held_out(recipe, tokenizer_for(recipe), 64, rows=2)
    >>> batch.ids.shape
    torch.Size([2, 512])
    """
    return held_out_batches(replace(recipe, seed=0), tokenizer, window, rows)


def side_by_side(
    task: Callable[[Job], Answer], jobs: Sequence[Job], workers: int, progress: bool = True
) -> list[Answer]:
    """Do one task for each job, several at a time, each in a process and with one thread.

    Args:
        task: a function of a module, for it is looked up by name in another process.
        jobs: what it is called with.
        workers: processes; 1 stays in this one.
        progress: show a live bar, one step a job.

    Returns:
        The answers in the order of the jobs, the same whatever the number of workers.

    >>> side_by_side(abs, [-1, 2, -3], workers=1, progress=False)
    [1, 2, 3]
    """
    alone = partial(_with_one_thread, task)
    if workers == 1:
        return [alone(job) for job in tqdm(jobs, disable=not progress, desc="models")]
    # Not "fork": a copy of a process in which torch has run may wait for ever for its threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        answers = pool.map(alone, jobs)
        return list(tqdm(answers, total=len(jobs), disable=not progress, desc="models"))


def _with_one_thread(task: Callable[[Job], Answer], job: Job) -> Answer:
    with one_thread_each():
        return task(job)
