"""What the tests of runs share: the size of one, and what is read from its folder."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

EPOCHS, STEPS = 3, 4  # epochs, and steps an epoch, of the runs that `setup` describes


def log_of(folder) -> list[dict]:
    """The run's log; every line must be JSON, without literals that JSON does not know."""
    lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} in the log")) for line in lines]


def steps_of(folder) -> list[int]:
    return [line["step"] for line in log_of(folder) if "loss" in line]


def metrics_of(folder) -> dict:
    return json.loads((Path(folder) / "metrics.json").read_text(), parse_constant=pytest.fail)


def same_weights(a, b) -> bool:
    ours, theirs = (load_file(Path(folder) / "model.safetensors") for folder in (a, b))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
