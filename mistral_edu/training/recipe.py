"""A training recipe: everything that decides a trained model, read from a TOML file.

    seed + recipe  ->  the same tokenizer, the same batches, the same weights

Lesson: 10_heads_and_training.

Conventions
    `start_from` names a model's folder, or the recipe of one, relative to the recipe's own folder;
    nothing means fresh weights.
    A key that is missing takes its default, a key that is unknown is refused (`recipe_checks`). The
    sizes of a fresh model have no default here: those of `MistralConfig` are the 7B's.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mistral_edu.config import MistralConfig
from mistral_edu.training.recipe_checks import (
    RecipeError,
    check_model,
    checked,
    require_known,
    require_sizes,
    require_type,
)

KINDS = ("texts", "dialogues")
PRECISIONS = ("float32", "bfloat16", "auto")


def has_bfloat16() -> bool:
    """Whether this machine multiplies matrices of bfloat16 faster than those of float32.

    A CPU without instructions for bfloat16 computes with it all the same, thirty times more slowly.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Args:
        steps: batches to learn from.
        rows, context: B and T of a batch.
        learning_rate: the highest of AdamW, which moves the embeddings and the norms.
        matrix_learning_rate: the highest of Muon, which moves the matrices of the layers.
        warmup, decay_steps: steps of increase at the beginning, of decrease to 1 % at the end
            (`loop.rate_at`).
        weight_decay: shrinkage of all matrices per unit of learning rate.
        answer_weight: how much a token of an answer counts; any other token counts 1.
        precision: in what matrices are multiplied: "float32", "bfloat16", or "auto", which is
            bfloat16 where the machine has instructions for it.
        workers: parts of a batch computed at the same time, each by one thread (`parallel.py`).
        checkpoint_every: steps between checkpoints.
        report_every: steps between held-out loss and samples.
    """

    steps: int = 1000
    rows: int = 4
    context: int = 1024
    learning_rate: float = 3e-3
    matrix_learning_rate: float = 0.02
    warmup: int = 50
    decay_steps: int = 200
    weight_decay: float = 0.01
    answer_weight: float = 5.0
    precision: str = "float32"
    workers: int = 2
    checkpoint_every: int = 100
    report_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "rows", "context", "workers", "checkpoint_every", "report_every"):
            if getattr(self, name) < 1:
                raise RecipeError(f"training.{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("learning_rate", "matrix_learning_rate", "answer_weight"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"training.{name} is {getattr(self, name)}, expected above 0")
        if self.precision not in PRECISIONS:
            raise RecipeError(
                f"training.precision is {self.precision!r}, expected one of {PRECISIONS}"
            )

    @property
    def dtype(self) -> torch.dtype:
        """The precision on this machine."""
        low = has_bfloat16() if self.precision == "auto" else self.precision == "bfloat16"
        return torch.bfloat16 if low else torch.float32


@dataclass(frozen=True)
class Stage:
    """What is shown at one step; between two stages everything changes in straight lines.

    Args:
        step: when.
        farthest: the largest distance between a fact and its question in "recall", in tokens.
        shares: of each kind of text (`curriculum.EVERY_KIND`); they need not add up to 1.
        mention_weight: how much a word of a text counts that names again what was named before.
    """

    step: int
    farthest: int
    shares: dict[str, float]
    mention_weight: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Args:
        seed: of the weights and of every batch.
        kind: "texts" for a base model, "dialogues" for a chat model.
        vocab_size, vocabulary_stories: what the tokenizer learns, and from how many stories.
        start_from: the folder of the model to go on from; or a recipe, which is followed first; or
            None.
        begun: the kinds of text that begin with the begin token, so that a model asked to begin
            by itself writes those; all kinds if empty.
        model: fields of `MistralConfig`; those of `start_from` if there is one.
        training: how to train.
        curriculum: what is shown when, in the order of steps; by default stories alone.
    """

    seed: int = 0
    kind: str = "texts"
    vocab_size: int = 2048
    vocabulary_stories: int = 6000
    start_from: Path | None = None
    begun: tuple[str, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    training: TrainingOptions = TrainingOptions()
    curriculum: tuple[Stage, ...] = (Stage(0, 64, {"stories": 1.0}),)

    def __post_init__(self) -> None:
        steps = [stage.step for stage in self.curriculum]
        if not steps or steps[0] != 0 or steps != sorted(set(steps)):
            raise RecipeError(f"curriculum has steps {steps}, expected 0 and then larger ones")
        if self.kind not in KINDS:
            raise RecipeError(f"kind is {self.kind!r}, expected one of {KINDS}")

    def config(self) -> MistralConfig:
        """The architecture of a fresh model.

        >>> Recipe(model={"hidden_size": 64, "num_attention_heads": 8}).config().vocab_size
        2048
        """
        return MistralConfig(
            vocab_size=self.vocab_size,
            max_position_embeddings=self.training.context,
            dtype="float16",
            **self.model,
        )


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file with the tables [model] and [training].

    Raises:
        FileNotFoundError: there is no such file.
        RecipeError: it is not TOML, holds what no recipe has, or lacks the model's sizes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "small.toml"
    ...     text = "start_from = '../tiny'\\n[training]\\nsteps = 10\\n"
    ...     _ = path.write_text(text, encoding="utf-8")
    ...     read_recipe(path).training.steps
    10
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}; expected a TOML file, see data/tiny")
    try:
        return _recipe(tomllib.loads(path.read_text(encoding="utf-8")), path.parent)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from error


def _recipe(found: dict[str, Any], beside: Path) -> Recipe:
    known = checked(found, Recipe, "")
    check_model(known.get("model", {}))
    known["training"] = TrainingOptions(
        **checked(known.get("training", {}), TrainingOptions, "[training] ")
    )
    if "curriculum" in known:
        require_type(known["curriculum"], list, "curriculum")
        known["curriculum"] = tuple(_stage(stage) for stage in known["curriculum"])
    if "start_from" in known:
        known["start_from"] = beside / known["start_from"]
    known["begun"] = tuple(known.get("begun", ()))
    _require_kinds(known["begun"], "begun: ")
    recipe = Recipe(**known)
    if recipe.start_from is None:
        require_sizes(recipe.model)
        recipe.config()  # Values that cannot be are found here, with the file's name.
    return recipe


def _stage(found: Any) -> Stage:
    stage = checked(found, Stage, "[[curriculum]] ")
    _require_kinds(stage["shares"], "[[curriculum]] shares: ")
    for kind, share in stage["shares"].items():
        require_type(share, float, f"[[curriculum]] shares: {kind}")
    return Stage(**stage)


def _require_kinds(names: Iterable[str], where: str) -> None:
    from mistral_edu.training.curriculum import EVERY_KIND  # which itself needs recipes

    require_known(names, EVERY_KIND, where, "kind of text")
