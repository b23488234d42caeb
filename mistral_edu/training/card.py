"""The card of a trained model: what was done, what came out, what it cannot do.

    folder with model and training.json  →  measurements.json and README.md beside them

Lesson: 10_heads_and_training.

Conventions
    `limits.md` in the folder, if there is one, is written by a person and copied in: judgements
    and limits are not for a program to make up.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mistral_edu.heads import MistralForCausalLM
from mistral_edu.tokenizer import MistralTokenizer
from mistral_edu.training import chat_evaluation, evaluation
from mistral_edu.training.curriculum import held_out_batches
from mistral_edu.training.dialogues import KINDS
from mistral_edu.training.loop import held_out_loss
from mistral_edu.training.recipe import Recipe
from mistral_edu.training.record import Record, history
from mistral_edu.training.run import TEMPERATURE, sample, write_text
from mistral_edu.training.variety import variety

SAMPLES = 20
STORIES = 400
PROBES = 100
VARIETY = (20_000, 400)
DIALOGUES = 500
MEASURED = "measurements.json"
JUDGED = "limits.md"


def write(recipe: Recipe, config: Path, folder: Path) -> Path:
    """Measure the model in `folder` and write its card.

    Args:
        recipe: what it was trained by.
        config: the recipe's file, for the command in the card.
        folder: holds the model; gets measurements.json and README.md.
    """
    model = MistralForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = MistralTokenizer.from_pretrained(folder)
    records = history(recipe, folder)
    figures = measure(recipe, model, tokenizer)
    write_text(folder / MEASURED, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    how, samples = sampled(recipe, model, tokenizer)
    facts = run_facts(recipe, config, model, records) | headline(figures)
    judged = folder / JUDGED
    limits = judged.read_text(encoding="utf-8") if judged.is_file() else ""
    parts = [f"# {folder.name}", introduction(), table(("Fact", "Value"), facts.items())]
    for title, groups in figures["groups"].items():
        rows = [(name, f"{share:.1%}", count) for name, (share, count) in groups.items()]
        parts += [f"## {title}", table(("Group", "Right", "Of"), rows)]
    grams = [(n, f"{d:.1%}", f"{s:.1%}") for n, (d, s) in figures["variety"].items()]
    parts += [
        "## How varied the texts are",
        table(("n", "n-grams of training that are distinct", "of held-out ones seen"), grams),
        limits.strip(),
        "## Samples",
        how,
        *(f"Seed {seed}:\n\n```text\n{text}\n```" for seed, text in enumerate(samples)),
    ]
    write_text(folder / "README.md", "\n\n".join(part for part in parts if part) + "\n")
    return folder / "README.md"


def sampled(
    recipe: Recipe, model: MistralForCausalLM, tokenizer: MistralTokenizer
) -> tuple[str, list[str]]:
    """What the model writes, by seed and not by taste, and how it was asked."""
    seeds = range(SAMPLES)
    if recipe.kind == "dialogues":
        talks = [chat_evaluation.conversation(model, tokenizer, seed) for seed in seeds]
        return f"Held-out dialogues 0 to {SAMPLES - 1}, greedy; all are here.", talks
    texts = [sample(model, tokenizer, seed) for seed in seeds]
    how = "from the begin token alone, each up to its first question"
    return f"Seeds 0 to {SAMPLES - 1} at temperature {TEMPERATURE} {how}; all are here.", texts


def measure(
    recipe: Recipe, model: MistralForCausalLM, tokenizer: MistralTokenizer
) -> dict[str, Any]:
    """Everything that the card says the model can do."""
    window = model.config.sliding_window or recipe.training.context
    loss = held_out_loss(model, held_out_batches(recipe, tokenizer, window, rows=64))
    figures: dict[str, Any] = {"held-out loss": round(loss, 4), "groups": {}}
    groups = figures["groups"]
    if recipe.kind == "dialogues":
        items = [
            item
            for kind in (None, *KINDS)
            for item in chat_evaluation.dialogue_items(tokenizer, kind, recipe.seed, DIALOGUES)
        ]
        groups["Answers in dialogues"] = marked(model, items)
        figures["stops by itself"] = chat_evaluation.share_that_stops(
            model, tokenizer, recipe.seed, 200
        )
    stories = evaluation.story_items(tokenizer, recipe.seed + 1, STORIES, window)
    if recipe.kind == "texts":
        groups["Questions about stories"] = marked(model, stories)
        marks = [window // 2 * step for step in range(1, 13)]
        for facts in (1, 3):
            probes = evaluation.recall_items(tokenizer, marks, PROBES, facts)
            noun = "one fact" if facts == 1 else f"{facts} facts"
            groups[f"Recall by distance in tokens, {noun}"] = marked(model, probes)
    figures["variety"] = variety(recipe.seed, *VARIETY)
    return figures


def marked(model: MistralForCausalLM, items: list[evaluation.Item]) -> dict[str, tuple[float, int]]:
    """Mark the items and put distances in the order of numbers."""
    shares = evaluation.shares(items, evaluation.mark(model, items))
    by_number = sorted(shares, key=lambda name: (int(name) if name.isdigit() else 0, name))
    return {name: shares[name] for name in by_number}


def run_facts(
    recipe: Recipe, config: Path, model: MistralForCausalLM, records: list[Record]
) -> dict[str, object]:
    """What was done, for the card."""
    recipes = [json.loads(record.recipe) for record in records]
    return {
        "made by": (
            f"`mistral-edu train --config data/{config.parent.name}/{config.name} --output FOLDER`"
        ),
        "parameters": f"{model.num_parameters():,}",
        "layers, heads, key/value heads": (
            f"{model.config.num_hidden_layers}, {model.config.num_attention_heads}, "
            f"{model.config.num_key_value_heads}"
        ),
        "window and training context, in tokens": (
            f"{model.config.sliding_window}, {recipe.training.context}"
        ),
        "pieces in the vocabulary": f"{model.config.vocab_size:,}",
        "seed": each(one["seed"] for one in recipes),
        "steps": each(f"{record.steps:,}" for record in records),
        "tokens seen, none twice": f"{sum(record.tokens for record in records):,}",
        "weight of answer tokens in the loss": (
            each(one["training"]["answer_weight"] for one in recipes)
            if recipe.kind == "texts"
            else "all weight is on the answers"
        ),
        "minutes of training, on 2 cores of an x86_64 machine": each(
            f"{record.seconds / 60:.1f}" for record in records
        ),
        "torch": torch.__version__,
    }


def each(values: Iterable[object]) -> str:
    """A figure of every run that made the model, in their order.

    >>> each([12, 8])
    '12 and then 8'
    """
    return " and then ".join(str(value) for value in values)


def headline(figures: dict[str, Any]) -> dict[str, object]:
    """The figures that stand in the card's first table."""
    loss = figures["held-out loss"]
    facts = {"held-out loss, nats per token": loss, "held-out perplexity": round(math.exp(loss), 3)}
    if "stops by itself" in figures:
        facts["replies that end by themselves"] = f"{figures['stops by itself']:.1%}"
    return facts


def introduction() -> str:
    """What the model is."""
    return (
        "A language model of Mistral's architecture that knows one invented valley. Every text\n"
        "it learned from was made by `mistral_edu.training`; nothing comes from elsewhere. A\n"
        "question counts as right if greedy decoding writes exactly its answer and ends there.\n"
        "Held-out texts use pairs of names, and texts, that training never shows."
    )


def table(head: tuple[str, ...], rows: Any) -> str:
    """A Markdown table.

    >>> print(table(("a", "b"), [(1, 2)]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [head, *rows]
    text = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    return "\n".join([text[0], "|" + "---|" * len(head), *text[1:]])
