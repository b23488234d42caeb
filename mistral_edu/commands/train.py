"""`mistral-edu train`: train a model by a recipe, and measure it.

Lesson: 10_heads_and_training.
"""

import argparse
from pathlib import Path

from mistral_edu.commands import arguments

HELP = "train a model of the toy world by a recipe (a TOML file, see data/tiny/training.toml)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, where to write, and how long."""
    parser.add_argument("--config", type=Path, required=True, metavar="TOML", help="the recipe")
    parser.add_argument("--output", type=Path, help="the folder to write (the recipe's own)")
    parser.add_argument("--max-minutes", type=arguments.minutes, help="stop after so many")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint there")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the model that the folder holds"
    )
    parser.add_argument(
        "--card", action="store_true", help="do not train: measure the model and write its card"
    )


def run(options: argparse.Namespace) -> int:
    """Train, draw the loss curve and, once every step is done, write the card."""
    from mistral_edu.training import card, curve
    from mistral_edu.training.curriculum import still_unseen
    from mistral_edu.training.follow import train
    from mistral_edu.training.recipe import read_recipe
    from mistral_edu.training.record import history, recipe_of

    recipe = read_recipe(options.config)
    output = arguments.writable(options.output or options.config.parent)
    if not options.card:
        folder, record = train(
            recipe,
            output,
            resume=options.resume,
            overwrite=options.overwrite,
            max_minutes=options.max_minutes,
        )
        done = folder == output
        curve.draw(history(recipe, output) if done else [record], folder / "loss_curve.png")
        why = still_unseen(recipe_of(folder, recipe, output), record.steps)
        print(
            f"step {record.steps}, {record.tokens:,} tokens, {record.seconds / 60:.1f} minutes, "
            f"held-out loss {record.held_out[-1][1]}{why}: {folder}"
        )
        if not done or record.steps < recipe.training.steps:
            print("--resume goes on from here.")
            return 0
    print(f"card: {card.write(recipe, options.config, output)}")
    return 0
