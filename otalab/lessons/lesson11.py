"""Lesson 11: the AP of a reloaded run, measured and not remembered."""

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
from otalab.detect.checkpoint import load_model, load_state, save_model, save_state
from otalab.detect.config import TrainConfig
from otalab.detect.evaluate import evaluate, open_split
from otalab.detect.train import train
from otalab.lessons.answers import number
from otalab.lessons.verdict import Verdict, failed, passed

RECORD = Path(__file__).parent / "recorded" / "real_photos.json"  # made by benchmarks/record_photos.py
CLOSE = 1e-6  # of two evaluations of the same weights
SHAKEN = 0.05  # noise on the copies' weights, relative to each tensor's spread


@dataclass(frozen=True)
class Copy:
    """A copy of a small run whose weights were changed, its true metrics, and those of wrong ways."""

    folder: Path
    metrics: dict[str, float]
    stored: float  # AP in metrics.json: the run's own, before its weights were changed
    on_train: float
    last_weights: float  # of the weights in checkpoint.pt that were not averaged


def check(reload=None) -> Verdict:
    """Whether `reload(run_folder)` gives the AP of the weights in that folder, on the held-out images of its data."""
    if not callable(reload):
        return failed("The answer is a function: reload(run_folder) gives the AP of the run in that folder.")
    said = []
    for copy in copies():
        try:
            answer = reload(copy.folder)
        except Exception as error:  # whatever a student's code raises
            advice = " Is the model in evaluation mode?" if "in training" in str(error) else ""
            return failed(f"reload(run_folder) raises {type(error).__name__}: {error}{advice}")
        answer = answer.get("AP") if isinstance(answer, dict) else answer
        value = number(answer)
        if value is None or not math.isfinite(value):
            return failed("reload(run_folder) returns one number, the AP, or the metrics with an entry AP.")
        said.append(value)
    if all(abs(value - copy.metrics["AP"]) < CLOSE for value, copy in zip(said, copies(), strict=True)):
        return passed(
            f"Right for {len(said)} copies of a run whose weights were changed after it had written its metrics. "
            "The file of weights holds all that the AP depends on: the weights, how to build the model, which class "
            "each label means. So whoever has it and the images can check the number."
        )
    return failed(hint(said))


def hint(said: list[float]) -> str:
    """What to think of, for APs that are not those of the weights."""

    def all_are(truth, within=CLOSE) -> bool:
        return all(abs(value - truth(copy)) < within for value, copy in zip(said, copies(), strict=True))

    if all_are(lambda copy: copy.stored):
        return (
            "That is the AP that the run wrote into metrics.json. The weights in these folders were changed since, so "
            "it is not theirs. Load the weights that are in the folder you are given, and evaluate them."
        )
    if all_are(lambda copy: 100 * copy.metrics["AP"]):
        return "That is in percent; the AP that otalab writes is a fraction, from 0 to 1."
    for name in ("AP50", "AP75"):
        if all_are(lambda copy, name=name: copy.metrics[name]):
            return f"That is {name}, the AP at one IoU threshold alone."
    if said == [round(value, 4) for value in said] and all_are(lambda copy: copy.metrics["AP"], within=5e-3):
        return "Nearly: is it rounded? Return it with all its digits."
    if all_are(lambda copy: copy.on_train):
        return "That is the AP on the images it was trained on. Which split was held out?"
    if all_are(lambda copy: copy.last_weights):
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
def copies() -> tuple[Copy, ...]:
    """Two copies of a run of seconds, with differently changed weights and APs that can be told apart."""
    root = Path(tempfile.mkdtemp(prefix="otalab-lesson11-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    run = small_run(root)
    stored = json.loads((run / "metrics.json").read_text())["AP"]
    return tuple(changed(run, root / f"copy{seed}", seed, stored) for seed in (1, 2))


def small_run(root: Path) -> Path:
    """A detector that has learnt a few easy scenes by heart, and is measured on four of them and two new ones."""
    scenes = ShapesConfig(
        image_size=64, min_objects=1, max_objects=2, min_size=24.0, max_size=40.0, crowd=0.0, texture=0.0
    )
    data = make_shapes(root / "shapes", 6, 6, scenes, progress=False)
    for part in ("instances.json", "images"):
        whole, half = data / "train" / part, data / "val" / part
        if whole.is_dir():
            for name in ("000000.png", "000001.png", "000002.png", "000003.png"):
                shutil.copy(whole / name, half / name)
        else:
            half.write_text(json.dumps(first_four_from(json.loads(whole.read_text()), json.loads(half.read_text()))))
    config = TrainConfig(
        data=str(data), out=str(root / "run"), epochs=30, batch_size=6, lr=4e-3, warmup=5, augment="none", ema=0.9
    )
    with torch.random.fork_rng():
        train(config, progress=False)
    return root / "run"


def first_four_from(train: dict, val: dict) -> dict:
    """The annotations of val with its first four images replaced by train's."""
    rows = [row for row in train["annotations"] if row["image_id"] <= 4]
    rows += [row for row in val["annotations"] if row["image_id"] > 4]
    return val | {"annotations": [row | {"id": number} for number, row in enumerate(rows, start=1)]}


def changed(run: Path, folder: Path, seed: int, stored: float) -> Copy:
    """A copy of the run with noise on its weights, in model.safetensors and in the average of checkpoint.pt."""
    shutil.copytree(run, folder)
    model, description = load_model(folder)
    generator = torch.Generator().manual_seed(seed)
    data = json.loads((folder / "config.json").read_text())["data"]
    heldout, seen = (open_split(data, split, description["class_names"]) for split in ("val", "train"))
    original = {name: value.clone() for name, value in model.state_dict().items()}
    strength, metrics = SHAKEN, {"AP": 1.0}
    while not 0.05 < metrics["AP"] < stored - 0.01:
        shaken = {name: shake(value, strength, generator) for name, value in original.items()}
        model.load_state_dict(shaken)
        metrics = evaluate(model, heldout, progress=False)
        strength *= 1.3 if metrics["AP"] >= stored - 0.01 else 0.7
    save_model(folder / "model.safetensors", model, **description)
    state = load_state(folder / "checkpoint.pt")
    save_state(folder / "checkpoint.pt", state | {"average": model.state_dict()})
    on_train = evaluate(model, seen, progress=False)["AP"]
    model.load_state_dict(state["model"])
    return Copy(folder, metrics, stored, on_train, evaluate(model, heldout, progress=False)["AP"])


def shake(value: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Weights with noise; statistics and counters as they are."""
    if not value.is_floating_point() or value.ndim < 2:
        return value
    return value + strength * value.std() * torch.randn(value.shape, generator=generator)


def recorded() -> dict:
    """The record that comes with the package."""
    return json.loads(RECORD.read_text())
