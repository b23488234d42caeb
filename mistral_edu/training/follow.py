"""Following a recipe that starts from another one: first the one, then the other.

    training.toml starts from stories.toml, which starts from lookups.toml:
    …/stories/lookups  →  …/stories  →  …

Lesson: 10_heads_and_training.
"""

import time
from pathlib import Path

from mistral_edu.training import checkpoint
from mistral_edu.training.recipe import Recipe, read_recipe
from mistral_edu.training.record import (
    RECORD,
    Record,
    history,
    part_record,
    parts,
    start_folder,
    write_record,
)
from mistral_edu.training.run import Run
from mistral_edu.weights.model_folder import layouts_in


def train(
    recipe: Recipe,
    output: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    max_minutes: float | None = None,
    progress: bool = True,
) -> tuple[Path, Record]:
    """Follow a recipe, and before it the one that it starts from, if that has not been followed.

    Args:
        recipe: what to train.
        output: the folder for the model; that of an earlier recipe goes into a folder inside.
        overwrite: replace the model that the folder holds.
        resume, max_minutes, progress: as `Run` and `Run.go` have them.

    Returns:
        The folder and the record of the last run: `output`, or that of the earlier recipe if the
        time was over before it was done.

    Raises:
        FileExistsError: if a folder to write holds a model that this run did not write.
    """
    stopped = (output / "training" / checkpoint.FILE).exists()  # `Run` asks `resume` of it.
    if not (overwrite or stopped):
        require_free(output)
    folder, before = start_folder(recipe, output), parts(recipe)
    if folder and before and not finished(folder):
        first, begun = read_recipe(before[-1]), time.monotonic()
        where, record = train(
            first,
            folder,
            resume=resume,
            overwrite=overwrite,
            max_minutes=max_minutes,
            progress=progress,
        )
        if not finished(folder):
            return where, record
        resume = False
        max_minutes = max_minutes and max(0.0, max_minutes - (time.monotonic() - begun) / 60)
    if folder and before:
        for part, one in zip(before, history(read_recipe(before[-1]), folder), strict=True):
            write_record(one, part_record(part, output))
    return output, Run(recipe, output, resume=resume).go(max_minutes, progress=progress)


def require_free(folder: Path) -> None:
    """Refuse a folder that holds a model.

    >>> require_free(Path("no such folder"))
    """
    if layouts_in(folder):
        raise FileExistsError(
            f"{folder} holds a model already: choose another --output, or give --overwrite to "
            "replace it"
        )


def finished(folder: Path) -> bool:
    """Whether a run in this folder has done all its steps."""
    return (folder / RECORD).exists() and not (folder / "training").exists()
