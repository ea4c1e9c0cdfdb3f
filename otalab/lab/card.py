"""The card of a run: what a study keeps of a trained detector, small enough to commit to a repository."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy
import torch
import torchvision

import otalab
from otalab.data.coco import CocoDataset
from otalab.detect.run_folder import kept_settings
from otalab.errors import InputError, first_line
from otalab.files import write_json
from otalab.lab.gt_bins import GtBin, crowding_bins, size_bins
from otalab.lab.photos import counts
from otalab.lab.plan import Job
from otalab.lab.run_record import part_seconds, read_run


@dataclass(frozen=True)
class Card:
    """One run of a study.

    settings: all settings that determine the weights, without the data folder
    source:   how the scenes are drawn, see `Scenes`; None for a folder
    scenes:   images, boxes and a hash of the image ids (`counts`), of the training and of the held-out split
    metrics:  COCO metrics on the held-out images, AP in 0..1; NaN (null in the file) where there was nothing to measure
    crowding, size: the `GtBin`s of the held-out gts as dicts, by the name of the bin
    epochs:   for each epoch the mean loss, positives per gt, the share of gts left empty, and the share of labels that
              changed since the previous epoch. That share is None for the first epoch. In a run that was stopped and
              resumed, it is None up to and including the first epoch that ended after the resumption.
    seconds:  training time, by part of a step
    versions: of the software that trained and measured, and the machine's architecture
    """

    data: str
    method: str
    seed: int
    settings: dict
    source: dict | None
    scenes: dict
    metrics: dict[str, float]
    crowding: dict[str, dict]
    size: dict[str, dict]
    epochs: list[dict]
    seconds: dict[str, float]
    versions: dict[str, str]

    def value(self, path: str) -> float:
        """A number of the card by its path: "metrics/AP/cat", "crowding/0.5 or more/AP", "size/under 16/recall".

        Raises InputError when the card holds no such number.
        """
        try:
            name, key = path.split("/", 1)
            if name in ("crowding", "size"):
                name_of_bin, number = key.split("/")
                found = getattr(self, name)[name_of_bin][number]
            else:  # the name of a metric may have a slash: AP/cat
                found = getattr(self, name)[key]
            return float("nan") if found is None else float(found)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"the card {card_name(self)} has no number {path}") from error


def card_name(of: Card | Job) -> str:
    """DATA/METHOD-SEED, with colons written as spaces because some file systems forbid colons."""
    return f"{of.data}/{of.method.replace(':', ' ')}-{of.seed}"


def card_path(folder: str | Path, of: Card | Job) -> Path:
    """The path of a card, or of the one that a job leaves."""
    return Path(folder) / f"{card_name(of)}.json"


def make_card(job: Job, run_folder: str | Path, trainset: CocoDataset, heldout: CocoDataset, changed: list) -> Card:
    """The card of a finished run; `changed` is that of a `LabelChanges`: a share for each epoch."""
    run, truth = read_run(run_folder), heldout.ground_truth()
    results = json.loads((Path(run_folder) / "detections.json").read_bytes())
    return Card(
        data=job.data,
        method=job.method,
        seed=job.seed,
        settings=shown_settings(job),
        source=job.source,
        scenes={"train": counts(trainset), "val": counts(heldout)},
        metrics=run.metrics,
        crowding=by_name(crowding_bins(truth, results)),
        size=by_name(size_bins(truth, results)),
        epochs=epoch_lines(run.steps, changed),
        seconds={name: round(seconds, 2) for name, seconds in part_seconds(run.steps).items()},
        versions=versions(),
    )


def shown_settings(job: Job) -> dict:
    """The settings of a job that determine its weights, as JSON holds them, without the data folder."""
    return {name: value for name, value in kept_settings(job.config()).items() if name != "data"}


def by_name(bins: Sequence[GtBin]) -> dict[str, dict]:
    """The bins as dicts, by their names."""
    rows = [asdict(each) for each in bins]
    return {row.pop("name"): row for row in rows}


def epoch_lines(steps: Sequence[dict], changed: Sequence[float | None]) -> list[dict]:
    """One dict per epoch, summed up from the log's lines of steps; see `Card.epochs`."""
    lines = []
    for epoch in sorted({step["epoch"] for step in steps}):
        own = [step for step in steps if step["epoch"] == epoch]
        gts, positives, empty = (sum(step[key] for step in own) for key in ("gts", "positives", "empty_gts"))
        lines.append(
            {
                "loss": round(sum(step["loss"] for step in own) / len(own), 4),
                "positives per gt": round(positives / max(1, gts), 3),
                "gts left empty": round(empty / max(1, gts), 5),
                "labels changed": changed[epoch] if epoch < len(changed) else None,
            }
        )
    return lines


def versions() -> dict[str, str]:
    """Versions of otalab, PyTorch, torchvision, NumPy and Python, and the machine's architecture."""
    of_packages = {each.__name__: each.__version__ for each in (otalab, torch, torchvision, numpy)}
    return of_packages | {"python": platform.python_version(), "machine": platform.machine()}


def write_card(folder: str | Path, card: Card) -> Path:
    """Write a card into the folder, whole or not at all; returns its path."""
    path = card_path(folder, card)
    write_json(path, asdict(card))
    return path


def read_card(path: str | Path) -> Card:
    """Read a card from its file. Raises InputError for a file that is not a card."""
    try:
        return parse_card(json.loads(Path(path).read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{path} is no card of a run: {first_line(error)}") from error


def parse_card(content: dict) -> Card:
    """A card from its JSON content, in which metrics that were not measured are null.

    Content that is not a card raises whatever the conversion raises: TypeError, AttributeError or KeyError.
    """
    metrics = {name: float("nan") if value is None else value for name, value in content["metrics"].items()}
    return Card(**{**content, "metrics": metrics})
