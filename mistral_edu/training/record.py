"""What a training run has measured, kept beside its model.

    training.json: this run        lookups.json: the run by lookups.toml that it started from

Lesson: 10_heads_and_training.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mistral_edu.training.recipe import Recipe, read_recipe
from mistral_edu.weights.whole_files import whole_file

RECORD = "training.json"


@dataclass
class Record:
    """What a run has measured so far.

    Args:
        recipe: the recipe as text, by which a checkpoint knows its own.
        steps, tokens, seconds: done so far; padding is not counted as tokens.
        losses: the training loss of every step, per token, in nats.
        held_out: pairs (step, loss), per token, in nats.
        answers: pairs (step, shares of held-out questions answered, by kind).

    >>> Record("", 2, 2048, 1.5, [7.6, 7.5], [], []).steps
    2
    """

    recipe: str
    steps: int
    tokens: int
    seconds: float
    losses: list[float]
    held_out: list[tuple[int, float]]
    answers: list[tuple[int, dict[str, float]]]


def write_record(record: Record, path: Path) -> None:
    """Write a record whole or not at all."""
    with whole_file(path) as file:
        file.write((json.dumps(asdict(record)) + "\n").encode())


def read_record(path: Path) -> Record:
    """Read a record that `write_record` wrote.

    Raises:
        FileNotFoundError: there is none; no run has ended there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no record at {path}; expected one: train the model there first")
    found = json.loads(path.read_text(encoding="utf-8"))
    for pairs in ("held_out", "answers"):
        found[pairs] = [tuple(pair) for pair in found[pairs]]
    return Record(**found)


def start_folder(recipe: Recipe, output: Path) -> Path | None:
    """The folder of the model that a recipe starts from, or None for fresh weights.

    >>> start_folder(Recipe(start_from=Path("lookups.toml")), Path("tiny")).as_posix()
    'tiny/lookups'
    """
    start = recipe.start_from
    return output / start.stem if start and start.suffix == ".toml" else start


def parts(recipe: Recipe) -> list[Path]:
    """The recipes that are followed before this one, the first one first.

    >>> parts(Recipe(start_from=Path("a model's folder")))
    []
    """
    start = recipe.start_from
    if start is None or start.suffix != ".toml":
        return []
    return [*parts(read_recipe(start)), start]


def recipe_of(folder: Path, recipe: Recipe, output: Path) -> Recipe:
    """The recipe of a run's folder: of `output`, or of a folder inside for an earlier recipe.

    >>> recipe_of(Path("tiny"), Recipe(seed=3), Path("tiny")).seed
    3
    """
    earlier = (part for part in parts(recipe) if part.stem == folder.name)
    return recipe if folder == output else read_recipe(next(earlier))


def part_record(part: Path, folder: Path) -> Path:
    """Where a model's folder keeps the record of one of the recipes before."""
    return folder / f"{part.stem}.json"


def history(recipe: Recipe, folder: Path) -> list[Record]:
    """The records of all runs that made the model in a folder, the first one first."""
    before = [read_record(part_record(part, folder)) for part in parts(recipe)]
    return [*before, read_record(folder / RECORD)]
