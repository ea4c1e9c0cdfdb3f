"""Lesson 12: the AP of a reloaded run, measured anew instead of read from its files."""

import atexit
import json
import math
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from otalab.data import ShapesConfig, make_shapes
from otalab.detect.checkpoint import load_model, load_state
from otalab.detect.config import TrainConfig
from otalab.detect.evaluate import evaluate, open_split
from otalab.detect.train import train
from otalab.files import write_json
from otalab.lessons.verdict import Hint, ask, checker, hint_if, number

RECORD = Path(__file__).parent / "recorded" / "real_photos.json"  # made by benchmarks/record_photos.py
CELLS = RECORD.with_name("cells.json")  # figures of docs/training.md
CLOSE = 1e-6  # most that two evaluations of the same weights differ by
EASY = ShapesConfig(image_size=64, min_objects=1, max_objects=2, min_size=24.0, max_size=40.0, crowd=0.0, texture=0.0)


@dataclass(frozen=True)
class Run:
    """A small run whose folder holds the metrics.json of another: its true metrics, and the APs of usual mistakes."""

    folder: Path
    metrics: dict[str, float]
    stored: float  # AP in metrics.json: the other run's
    on_train: float
    last_weights: float  # AP of the weights in checkpoint.pt before averaging


@checker
def check(reload=None) -> str:
    """Check that `reload(run_folder)` gives the AP of the weights in that folder on the held-out images of its data."""
    no_function = not callable(reload)
    hint_if(no_function, "The answer is a function: reload(run_folder) gives the AP of the run in that folder.")
    said = []
    for run in runs():
        answer = ask(reload, "reload(run_folder)", run.folder)
        value = number(answer.get("AP") if isinstance(answer, dict) else answer)
        none = value is None or not math.isfinite(value)
        hint_if(none, "reload(run_folder) returns one number, the AP, or the metrics with an entry AP.")
        said.append(value)
    if not all(abs(value - run.metrics["AP"]) < CLOSE for value, run in zip(said, runs(), strict=True)):
        raise Hint(hint(said))
    return (
        f"Right for {len(said)} runs, though each has the metrics.json of another. The file of weights holds all that "
        "the AP depends on: the weights, how to build the model, which class each label means. So whoever has it and "
        "the images can check the number."
    )


def hint(said: list[float]) -> str:
    """Hint for APs that are not those of the weights: the usual mistake that explains them, or where to look."""

    def all_are(truth, within: float = CLOSE) -> bool:
        return all(abs(value - truth(run)) < within for value, run in zip(said, runs(), strict=True))

    if all_are(lambda run: run.stored):
        return (
            "That is the AP in metrics.json, and in these folders it is another run's. Load the weights that are in "
            "the folder you are given, and evaluate them."
        )
    if all_are(lambda run: 100 * run.metrics["AP"]):
        return "That is in percent; the AP that otalab writes is a fraction, from 0 to 1."
    for name in ("AP50", "AP75"):
        if all_are(lambda run, name=name: run.metrics[name]):
            return f"That is {name}, the AP at one IoU threshold alone."
    if said == [round(value, 4) for value in said] and all_are(lambda run: run.metrics["AP"], within=5e-3):
        return "Nearly: is it rounded? Return it with all its digits."
    if all_are(lambda run: run.on_train):
        return "That is the AP on the images it was trained on. Which split was held out?"
    if all_are(lambda run: run.last_weights):
        return "Those are the weights after the last step. The AP belongs to their moving average: model.safetensors."
    if max(said) < 0.02:
        return (
            "That is the AP of a detector that has learnt nothing, or of one measured on images of another kind. Did "
            "the weights get into the model, and are the images those of the data in the run's config.json?"
        )
    if len(set(said)) == 1:
        return "You return the same AP for runs of different weights. What does your function read from run_folder?"
    return "Not the AP of these weights. Which model, which data and which split of it did you take, and from where?"


@cache
def runs() -> tuple[Run, Run]:
    """Train two runs, in seconds, that overfit a few easy scenes, and give each the metrics.json of the other."""
    root = Path(tempfile.mkdtemp(prefix="otalab-lesson12-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    data = make_shapes(root / "shapes", 6, 1, EASY, progress=False)
    # the held-out scenes are four of the training set, because new ones would take longer to learn
    shutil.copytree(data / "train", data / "val", dirs_exist_ok=True)
    truth = json.loads((data / "val/instances.json").read_text())
    truth["images"] = truth["images"][:4]
    ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [row for row in truth["annotations"] if row["image_id"] in ids]
    write_json(data / "val/instances.json", truth)
    settings = {"epochs": 16, "batch_size": 6, "lr": 6e-3, "warmup": 5, "augment": "none", "ema": 0.9}
    folders = root / "first", root / "second"
    with torch.random.fork_rng():
        configs = [TrainConfig(data=str(data), out=str(out), seed=seed, **settings) for seed, out in enumerate(folders)]
        metrics = [train(config, progress=False) for config in configs]
    found = []
    for folder, own, other in zip(folders, metrics, reversed(metrics), strict=True):
        write_json(folder / "metrics.json", other)
        model, description = load_model(folder)
        seen, heldout = (open_split(data, split, description["class_names"]) for split in ("train", "val"))
        on_train = evaluate(model, seen, progress=False)["AP"]
        model.load_state_dict(load_state(folder / "checkpoint.pt")["model"])
        last_weights = evaluate(model, heldout, progress=False)["AP"]
        found.append(Run(folder, own, other["AP"], on_train, last_weights))
    return tuple(found)


def recorded(record: Path = RECORD) -> dict:
    """A record that comes with the package: RECORD, of COCO's photos, or CELLS, of blood cells."""
    return json.loads(record.read_text())
