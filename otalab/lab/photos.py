"""The figures of a run on photos, in a form for JSON: totals, classes with their intervals, kinds of mistakes."""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from otalab.data import CocoDataset
from otalab.data.manifest import Manifest
from otalab.detect.checkpoint import load_model
from otalab.detect.config import TrainConfig, flag_words
from otalab.detect.evaluate import NAMES, coco_metrics, detect, evaluate, open_split, precision_curves
from otalab.detect.run_folder import MAY_CHANGE
from otalab.lab.gt_bins import found_gts
from otalab.lab.mistakes import DetectionCounts, GtCounts, Mistakes, by_image, count_mistakes, gts_and_crowds
from otalab.lab.run_record import RunRecord, read_run

SHOWN_IOU = (0.5, 0.75, 0.9)


def measure(run: str | Path, data: str | Path, resamples: int = 0, progress: bool = False) -> dict:
    """Measure all that lesson 12 shows of a run; returns values for JSON.

    run, data: a run's folder, and the COCO-format folder that it was trained on
    resamples: how often the held-out images are resampled for the interval of each class; 0 leaves intervals out
    """
    record = read_run(run)
    settings = record.settings
    model, description = load_model(run)
    names = description["class_names"]
    heldout = open_split(data, "val", names)
    seen, some = trained_on(record, data, names), trained_on(record, data, names, len(heldout))
    truth = heldout.ground_truth()
    results = detect(model, heldout, settings["batch_size"], progress)
    metrics = coco_metrics(truth, results)
    curves = precision_curves(truth, results)
    again = evaluate(model, some, settings["batch_size"], progress)
    score = even_score(truth, results)
    steps = max(line["step"] for line in record.log)
    shown = ("backbone", "weights_backbone", "assigner", "augment", "epochs", "batch_size", "lr", "seed")
    return rounded(
        {
            "run": {name: settings[name] for name in shown} | {"steps": steps, "command": command(settings)},
            "data": {"classes": len(names), "train": counts(seen), "val": counts(heldout)},
            "metrics": {name: metrics[name] for name in NAMES},
            "train_metrics": {name: again[name] for name in ("AP", "AP50")},
            "curves": {
                "recall": curves.recall.tolist(),
                **{f"IoU {iou}": curves.mean()[round((iou - 0.5) / 0.05)].tolist() for iou in SHOWN_IOU},
            },
            "classes": class_rows(seen, heldout, metrics, intervals(truth, results, resamples)),
            "mistakes": {"score": score} | asdict(count_mistakes(truth, results, score)),
            "reach": reach(truth, results, score),
        }
    )


def trained_on(run: RunRecord, data: str | Path, names: Sequence[str], most: int | None = None) -> CocoDataset:
    """The training images of a run, `most` of them at most."""
    own = {name: run.settings[name] for name in ("max_images", "background", "seed")}
    if most is not None:
        own["max_images"] = min(most, own["max_images"] or most)
    return CocoDataset.from_folder(data, "train", categories=names, **own)


def command(settings: dict) -> str:
    """The command that trains with these settings; DATA stands for the data folder."""
    recipe = settings.get("recipe")
    usual = asdict(TrainConfig.from_recipe(recipe) if recipe else TrainConfig())
    flags = [] if recipe is None else ["--recipe", recipe]
    for name, value in settings.items():
        value = tuple(value) if isinstance(value, list) else value
        if name in usual and value != usual[name] and name not in ("data", *MAY_CHANGE):
            flags += flag_words(name, value)
    return shlex.join(["otalab", "train", *flags, "--data", "DATA"])


def counts(dataset: CocoDataset) -> dict[str, int | str]:
    """Numbers of images and boxes (without crowd regions) of a split, and the hash of its image ids, see `Manifest`."""
    gts, _ = gts_and_crowds(dataset.ground_truth()["annotations"])
    return {"images": len(dataset), "boxes": len(gts), "ids_sha256": Manifest("", dataset.image_ids).sha256}


def reach(truth: dict, results: Sequence[dict], score: float) -> dict[str, int]:
    """How many gts are covered by a box with IoU >= 0.5, even if its score is low or its class is wrong.

    sure_own, sure_any: gts taken by boxes of at least `score`, of the gt's class or of any class
    all_own, all_any:   the same for boxes of any score
    chance:             `all_any` if each image is given the boxes of the next image
    boxes:              number of all boxes

    Each box takes at most one gt, the highest score first, see `match`.
    """
    ids = [image["id"] for image in truth["images"]]
    gts = by_image(gts_and_crowds(truth["annotations"])[0])
    everything, sure = by_image(results), by_image(row for row in results if row["score"] >= score)

    def taken(rows: dict[int, list[dict]], own: bool, shift: int = 0) -> int:
        others = ids[shift:] + ids[:shift]
        pairs = zip(ids, others, strict=True)
        return sum(int(found_gts(gts[image], rows[other], own).sum()) for image, other in pairs)

    return {
        "sure_own": taken(sure, own=True),
        "sure_any": taken(sure, own=False),
        "all_own": taken(everything, own=True),
        "all_any": taken(everything, own=False),
        "chance": taken(everything, own=False, shift=1),
        "boxes": len(results),
    }


def class_rows(seen: CocoDataset, heldout: CocoDataset, metrics: dict, intervals: dict) -> list[dict]:
    """One row for each class that has a held-out gt; classes with the most training images come first.

    A class with a single gt has no interval, because resampling says nothing about an AP that depends on one object.
    """
    trained, measured = (gts_and_crowds(split.ground_truth()["annotations"])[0] for split in (seen, heldout))
    images = Counter(category for category, _ in {(row["category_id"], row["image_id"]) for row in trained})
    gts = Counter(row["category_id"] for row in measured)
    rows = [
        {"name": name, "images": images[i], "gts": gts[i]}
        | {"AP": metrics[f"AP/{name}"], "AP50": metrics[f"AP50/{name}"]}
        | {"interval": intervals.get(name) if gts[i] > 1 else None}
        for i, name in zip(heldout.category_ids, heldout.class_names, strict=True)
        if f"AP/{name}" in metrics
    ]
    return sorted(rows, key=lambda row: -row["images"])


def intervals(truth: dict, results: Sequence[dict], resamples: int) -> dict[str, list[float]]:
    """95 % bootstrap intervals of each class's AP: images are resampled with replacement.

    Only single classes have an interval. This does not work for the mean over classes, because a sample may contain no
    gt of a rare class.
    """
    rng = np.random.default_rng(0)
    drawn = defaultdict(list)
    for _ in range(resamples):
        for name, value in coco_metrics(*resample(truth, results, rng)).items():
            if name.startswith("AP/"):
                drawn[name.removeprefix("AP/")].append(value)
    return {name: np.quantile(values, (0.025, 0.975)).tolist() for name, values in drawn.items()}


def resample(truth: dict, results: Sequence[dict], rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """Resample the images with replacement, with their gts and detections; an image drawn twice counts twice."""
    gts, found = by_image(truth["annotations"]), by_image(results)
    images, annotations, detections = [], [], []
    for new, index in enumerate(rng.integers(len(truth["images"]), size=len(truth["images"])).tolist()):
        image = truth["images"][index]
        images.append(image | {"id": new})
        detections += [row | {"image_id": new} for row in found[image["id"]]]
        for row in gts[image["id"]]:
            annotations.append(row | {"image_id": new, "id": len(annotations) + 1})
    return {**truth, "images": images, "annotations": annotations}, detections


def rounded(value):
    """The same JSON value with floats rounded to four decimals, for a small file."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 4))


def even_score(truth: dict, results: Sequence[dict]) -> float:
    """The score that as many detections reach as there are gts; the lowest score if there are fewer, 0 if none."""
    gts, _ = gts_and_crowds(truth["annotations"])
    best = sorted((row["score"] for row in results), reverse=True)[: len(gts)]
    return best[-1] if best else 0.0


def mistakes_of(record: dict) -> Mistakes:
    """The mistakes in a record, which counts as many of the best detections as there are gts."""
    both = record["mistakes"]
    return Mistakes(GtCounts(**both["gts"]), DetectionCounts(**both["detections"]))
