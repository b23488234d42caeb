"""One small model that learns to recall: its shape, its training, its marks.

    questions near the fact first, then further and further, then half as far again as the reach

Lesson: 15_long_context, which measures with `recall.py`.

Conventions
    Rows grow during the first part of training, so that near questions come first. From then on
    questions beyond the reach are trained too: only the architecture can keep them unanswered.
"""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

from mistral_edu.config import MistralConfig
from mistral_edu.experiments.recall_task import NO_ANSWER, Rows, draw_rows, vocabulary
from mistral_edu.experiments.record import Row
from mistral_edu.heads import MistralForCausalLM
from mistral_edu.sliding_window import reach
from mistral_edu.training.loop import optimizers_for, rate_at
from mistral_edu.training.parallel import one_thread_each
from mistral_edu.training.recipe import TrainingOptions


@dataclass(frozen=True)
class Settings:
    """What is measured; the defaults are the course's measurement.

    Args:
        windows, layers, facts, seeds: every combination is one model; one to three depths.
        steps, rows: batches to learn from, and rows in each.
        growing: the share of the steps during which rows grow.
        test_rows: rows to mark a model with; about half as many questions for each distance.
        workers: models trained at the same time, each by one thread.
    """

    windows: tuple[int, ...] = (8, 16)
    layers: tuple[int, ...] = (1, 2, 4)
    facts: tuple[int, ...] = (1, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 400
    rows: int = 32
    growing: float = 0.6
    test_rows: int = 2000
    workers: int = 2


@dataclass(frozen=True)
class Case:
    """One model to train: its window W, layers L, facts in a row, seed.

    >>> Case(window=8, layers=2, facts=1, seed=0).reachable
    14
    """

    window: int
    layers: int
    facts: int
    seed: int

    @property
    def reachable(self) -> int:
        """L · (W − 1), the farthest distance that the stack can bridge."""
        return reach(self.layers, self.window) - 1

    @property
    def farthest(self) -> int:
        """The farthest distance asked about: half as far again."""
        return round(1.5 * self.reachable)

    def model(self) -> MistralForCausalLM:
        """A fresh model of hidden size 64, 4 query heads and 1 key/value head of 16 numbers."""
        config = MistralConfig(
            vocab_size=vocabulary(self.facts),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=self.layers,
            num_attention_heads=4,
            num_key_value_heads=1,
            sliding_window=self.window,
            max_position_embeddings=self.farthest + self.window,
        )
        return MistralForCausalLM(config, "sdpa")


def measure_one(case: Case, settings: Settings) -> list[Row]:
    """Train one model and mark it, a row for every distance; one thread, all from the seed."""
    with one_thread_each(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        model = case.model()
        learn(model, case, settings)
        return mark(model, case, settings)


def learn(model: MistralForCausalLM, case: Case, settings: Settings) -> list[float]:
    """Train a model in place; return the loss of each step, in nats per question."""
    options = TrainingOptions(steps=settings.steps, warmup=20, decay_steps=settings.steps // 4)
    optimizers = optimizers_for(model, options)
    highest = (options.matrix_learning_rate, options.learning_rate)
    random = torch.Generator().manual_seed(case.seed)
    losses = []
    model.train()
    for step in range(settings.steps):
        drawn = grown(random, case, settings.rows, step / (settings.growing * settings.steps))
        logits = model(drawn.ids, use_cache=False).logits
        loss = functional.cross_entropy(logits.mT, drawn.answers, ignore_index=NO_ANSWER)
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, most in zip(optimizers, highest, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = most * rate_at(step, options)
            optimizer.step()
        losses.append(loss.item())
    return losses


def grown(random: torch.Generator, case: Case, rows: int, share: float) -> Rows:
    """Training rows of some share of their full length, 1 or more for all of it."""
    full = case.farthest + case.window
    length = min(full, case.facts + case.window // 2 + int(share * full))
    within = max(case.facts, min(case.window, length // 4))
    return draw_rows(random, rows, length, case.facts, within)


@torch.no_grad()
def mark(model: MistralForCausalLM, case: Case, settings: Settings) -> list[Row]:
    """The share of right answers at every distance, in rows that training never showed."""
    model.eval()
    random = torch.Generator().manual_seed(1_000_000 + case.seed)
    length = case.farthest + case.window
    drawn = draw_rows(random, settings.test_rows, length, case.facts, case.window)
    parts = drawn.ids.split(200)
    likeliest = torch.cat([model(ids, use_cache=False).logits.argmax(dim=-1) for ids in parts])
    asked = drawn.answers != NO_ANSWER
    at = drawn.distances[asked]
    counts = at.bincount(minlength=length)
    right = at[(likeliest == drawn.answers)[asked]].bincount(minlength=length)
    return [
        asdict(case) | {"distance": far, "accuracy": int(right[far]) / n, "count": n}
        for far in range(1, case.farthest + 1)
        if (n := int(counts[far]))
    ]
