"""Lesson 12: reload a run and evaluate it again."""

import json
from pathlib import Path

from otalab.detect.checkpoint import load_model
from otalab.detect.evaluate import evaluate, open_split
from otalab.lessons import lesson12


def reload(run_folder):
    """The AP of the weights in a run's folder, on the held-out images of the data that it was trained on."""
    # the weights file says how to build the model and which class each label means
    model, description = load_model(run_folder)
    config = json.loads((Path(run_folder) / "config.json").read_text())
    heldout = open_split(config["data"], "val", description["class_names"])
    return evaluate(model, heldout, progress=False)["AP"]  # the batch size does not matter: no image affects another


verdict = lesson12.check(reload)
print(verdict)
