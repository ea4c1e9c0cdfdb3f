"""`otalab eval`: average precision, COCO's or that of crowds, as a table."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from otalab.files import to_json, write_json

HEADS = {"MR-2": "MR^-2"}  # printed in place of the metric's key


def run(a: argparse.Namespace) -> None:
    """Evaluate in batches of the size used in training, unless --batch-size is given; smaller if that does not fit."""
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
    truth = dataset.ground_truth()
    if a.metrics == "crowd":
        metrics = print_crowds(truth, results, a.backend)
    else:
        metrics = coco_metrics(truth, results, a.backend)
        print_metrics(metrics)
    if a.json:
        write_json(a.json, metrics)


def print_metrics(metrics: dict[str, float], columns: Sequence[str] = ("AP", "AP50")) -> None:
    """Print the totals, then the metrics named in `columns` for each category."""
    for name, value in metrics.items():
        if "/" not in name:
            print(f"{HEADS.get(name, name):<8}{value:8.3f}")
    print(f"\n{'category':<20}" + "".join(f"{HEADS.get(name, name):>8}" for name in columns))
    for category in (name[3:] for name in metrics if name.startswith("AP/")):
        print(f"{category:<20}" + "".join(f"{metrics[f'{name}/{category}']:8.3f}" for name in columns))


def print_crowds(ground_truth: dict, results: Sequence[dict], backend: str | None) -> dict:
    """Print CrowdHuman's metrics, in total and by class, and recall and AP by crowding; returns them all."""
    from otalab.lab.crowd_metrics import NAMES, crowd_metrics
    from otalab.lab.gt_bins import crowding_bins

    metrics, bins = crowd_metrics(ground_truth, results), crowding_bins(ground_truth, results, backend)
    print_metrics(metrics, NAMES)
    print(f"\n{'largest IoU':<20}{'gts':>8}{'recall':>8}{'AP':>8}{'AP50':>8}    (with another gt; COCO's AP)")
    for each in bins:
        print(f"{each.name:<20}{each.gts:8,}{each.recall:8.3f}{each.AP:8.3f}{each.AP50:8.3f}")
    return metrics | {"crowding": [asdict(each) for each in bins]}
