"""`otalab train` and `otalab eval`: both end in a table of average precision."""

import argparse
import os
import textwrap
from dataclasses import fields

from otalab.detect.config import TrainConfig, implied
from otalab.detect.recipes import RECIPES
from otalab.files import to_json, write_json

GLUE = "\0"  # keeps a flag and its values on one line


def run_train(a: argparse.Namespace) -> None:
    """What is not given is left to TrainConfig; a setting at fault is told before torch is imported."""
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
    """Each recipe: its name, what it is for, and its settings as flags."""
    for name, (purpose, settings) in RECIPES.items():
        print(f"{name}: {purpose}\n")
        flags = " ".join(as_flag(key, value) for key, value in settings.items() if value is not None)
        lines = textwrap.wrap(flags, 96, break_on_hyphens=False)
        print(textwrap.indent("\n".join(lines).replace(GLUE, " "), "    "), end="\n\n")


def as_flag(name: str, value: object) -> str:
    """A setting as the command line has it, in one piece for `textwrap`."""
    values = value if isinstance(value, tuple) else (value,)
    return GLUE.join(("--" + name.replace("_", "-"), *map(str, values)))


def run_eval(a: argparse.Namespace) -> None:
    """Images are padded in batches as in training, unless told otherwise."""
    from otalab.detect.checkpoint import load_model
    from otalab.detect.device import pick_device
    from otalab.detect.evaluate import coco_metrics, detect, open_split
    from otalab.detect.limits import evaluation_batch
    from otalab.detect.run_folder import write_text

    model, description = load_model(a.checkpoint, pick_device(a.device))
    dataset = open_split(a.data, a.split, description["class_names"])
    batch = evaluation_batch(dataset.sizes, model.image_size, a.batch_size or description["batch_size"])
    results = detect(model, dataset, batch, progress=True)
    if a.results:
        write_text(a.results, [to_json(results)])
    metrics = coco_metrics(dataset.ground_truth(), results, a.backend)
    print_metrics(metrics)
    if a.json:
        write_json(a.json, metrics)


def print_metrics(metrics: dict[str, float]) -> None:
    """AP in two columns: the totals, then each category."""
    for name, value in metrics.items():
        if "/" not in name:
            print(f"{name:<8}{value:8.3f}")
    print(f"\n{'category':<20}{'AP':>8}{'AP50':>8}")
    for name, value in metrics.items():
        if name.startswith("AP/"):
            print(f"{name[3:]:<20}{value:8.3f}{metrics['AP50/' + name[3:]]:8.3f}")
