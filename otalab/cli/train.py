"""`otalab train`, which ends in a table of average precision, and `otalab recipes`."""

import argparse
import os
import textwrap
from dataclasses import fields

from otalab.cli.evaluate import print_metrics
from otalab.detect.config import TrainConfig, flag_words, implied
from otalab.detect.recipes import RECIPES

GLUE = "\0"  # joins a flag and its values: textwrap does not break a line here


def run_train(a: argparse.Namespace) -> None:
    """Train with the given settings and TrainConfig's defaults. A bad setting is reported before torch is imported."""
    given = {field.name: getattr(a, field.name) for field in fields(TrainConfig) if field.name in a}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    recipe = given.pop("recipe", None)
    config = TrainConfig.from_recipe(recipe, **given) if recipe else TrainConfig(**implied(given))
    from otalab.detect.train import train

    metrics = train(config, resume=a.resume)
    if os.environ.get("RANK", "0") == "0":
        print_metrics(metrics)
        print(f"\nweights: {config.out}/model.safetensors   log: {config.out}/log.jsonl")


def run_recipes(a: argparse.Namespace) -> None:
    """Print each recipe: its name, its purpose, and its settings as flags."""
    for name, (purpose, settings) in RECIPES.items():
        print(f"{name}: {purpose}\n")
        flags = " ".join(GLUE.join(flag_words(*setting)) for setting in settings.items() if setting[1] is not None)
        lines = textwrap.wrap(flags, 96, break_on_hyphens=False)
        print(textwrap.indent("\n".join(lines).replace(GLUE, " "), "    "), end="\n\n")
