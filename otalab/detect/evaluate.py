"""COCO evaluation: average precision by the reference implementation, or by a faster one that gives equal numbers."""

import contextlib
import importlib.util
import io
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from otalab.data.coco import CocoDataset, collate
from otalab.detect.detector import Detector
from otalab.errors import InputError
from otalab.progress import progress_bar

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def evaluate(
    model: Detector, dataset: CocoDataset, batch_size: int = 16, progress: bool = True, backend: str | None = None
) -> dict[str, float]:
    """Average precision of a detector on a data set; see `coco_metrics` for the keys."""
    return coco_metrics(dataset.ground_truth(), detect(model, dataset, batch_size, progress), backend)


def open_split(folder: str | Path, split: str, class_names: list[str], cache: bool = False) -> CocoDataset:
    """A split whose labels mean what a detector's do. Raises InputError when its categories come in another order."""
    dataset = CocoDataset.from_folder(folder, split, categories=class_names, cache=cache)
    if dataset.class_names != class_names:
        pair = next(p for p in zip_longest(class_names, dataset.class_names) if p[0] != p[1])
        raise InputError(
            f"{dataset.annotations} has {pair[1]!r} where the detector has {pair[0]!r}: sort its categories"
        )
    return dataset


@torch.inference_mode()
def detect(model: Detector, dataset: CocoDataset, batch_size: int = 16, progress: bool = True) -> list[dict]:
    """The model's detections on every image, as COCO results: boxes xywh px, COCO's own category ids."""
    device = next(model.parameters()).device
    model.eval()
    results = []
    loader = DataLoader(dataset, batch_size, collate_fn=collate)
    for images, targets in progress_bar(loader, unit="batch", desc="evaluate", disable=not progress, leave=False):
        for found, target in zip(model([i.to(device) for i in images]), targets, strict=True):
            boxes = found["boxes"].double().cpu()
            boxes[:, 2:] -= boxes[:, :2]
            results += [
                {
                    "image_id": int(target["image_id"]),
                    "category_id": dataset.category_ids[label],
                    "bbox": box,
                    "score": score,
                }
                for box, label, score in zip(
                    boxes.tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
                )
            ]
    return results


def coco_metrics(ground_truth: dict, results: list[dict], backend: str | None = None) -> dict[str, float]:
    """COCO's twelve box metrics, and "AP/NAME" and "AP50/NAME" of every category that has a gt.

    backend: "pycocotools" or "faster-coco-eval"; None takes the faster one where it is installed. Metrics without a
    gt to measure are NaN. Raises InputError for an unknown backend.
    """
    COCO, COCOeval = load_backend(backend)
    results = [dict(result) for result in results]  # pycocotools writes into them
    with contextlib.redirect_stdout(io.StringIO()):  # both print tables
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        found = truth.loadRes(results) if results else COCO()
        if not results:
            found.dataset = {**ground_truth, "annotations": []}
            found.createIndex()
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    metrics = {name: nan_if_absent(value) for name, value in zip(NAMES, run.stats[:12], strict=True)}
    precision = run.eval["precision"]  # IoU threshold, recall, category, area, detections
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    for index, category in enumerate(run.params.catIds):
        values = precision[:, :, index, 0, -1]
        if (values > -1).any():
            metrics[f"AP/{names[category]}"] = float(values.mean())
            metrics[f"AP50/{names[category]}"] = float(values[0].mean())
    return metrics


def load_backend(name: str | None):
    """The classes COCO and COCOeval of a backend."""
    there = importlib.util.find_spec("faster_coco_eval") is not None
    if name is None:
        name = "faster-coco-eval" if there else "pycocotools"
    if name == "faster-coco-eval":
        if not there:
            raise InputError("evaluation backend faster-coco-eval is not installed; it is in the extra 'fast'")
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    raise InputError(f"evaluation backend {name!r} is neither pycocotools nor faster-coco-eval")


def nan_if_absent(value: float) -> float:
    """COCO's -1 ("nothing to measure") as NaN."""
    return float(value) if value > -1 else float(np.nan)
