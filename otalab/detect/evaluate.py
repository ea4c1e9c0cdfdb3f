"""COCO evaluation: average precision by the reference implementation, or by a faster one with the same results."""

import contextlib
import importlib.util
import io
from dataclasses import dataclass
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.ops import box_convert

from otalab.data.coco import CocoDataset, collate
from otalab.detect.detector import Detector
from otalab.detect.distributed import gathered, num_processes, rank
from otalab.errors import InputError
from otalab.progress import progress_bar

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class PrecisionCurves:
    """COCO's interpolated precision: at each recall, the best precision at that recall or any higher one."""

    iou: Float[np.ndarray, " t"]
    """IoU thresholds, from which a detection counts as correct: 0.5, 0.55, ..., 0.95."""
    recall: Float[np.ndarray, " r"]
    """Levels of recall: 0, 0.01, ..., 1."""
    precision: Float[np.ndarray, "t r c"]
    """Precision in 0..1: 0 at a recall that is not reached, NaN for a class without a gt."""
    class_names: list[str]

    def mean(self) -> Float[np.ndarray, "t r"]:
        """The mean over classes with a gt, or NaN. Its mean is COCO's AP, and that of its first row is AP50."""
        measured = ~np.isnan(self.precision).all((0, 1))
        if not measured.any():
            return np.full(self.precision.shape[:2], np.nan)
        return self.precision[:, :, measured].mean(2)


def evaluate(
    model: Detector, dataset: CocoDataset, batch_size: int = 16, progress: bool = True, backend: str | None = None
) -> dict[str, float]:
    """Average precision of a detector on a data set; see `coco_metrics` for keys and backends."""
    return coco_metrics(dataset.ground_truth(), detect(model, dataset, batch_size, progress), backend)


def open_split(folder: str | Path, split: str, class_names: list[str]) -> CocoDataset:
    """Open a split with a detector's classes. Raises InputError if some are missing or their order differs."""
    dataset = CocoDataset.from_folder(folder, split, categories=class_names)
    if dataset.class_names != class_names:
        pair = next(p for p in zip_longest(class_names, dataset.class_names) if p[0] != p[1])
        raise InputError(
            f"{dataset.annotations} has {pair[1]!r} where the detector has {pair[0]!r}: sort its categories"
        )
    return dataset


@torch.inference_mode()
def detect(model: Detector, dataset: CocoDataset, batch_size: int = 16, progress: bool = True) -> list[dict]:
    """Run the model on every image; returns COCO results, with boxes in xywh px and the data set's category ids.

    Images of similar shape share a batch. In a distributed run each process takes its share of the images, and all
    processes return all results. Results are in the order of the data set.
    """
    device = next(model.parameters()).device
    model.eval()
    order = sorted(range(len(dataset)), key=lambda i: tuple(dataset.sizes[i]))[rank() :: num_processes()]
    loader = DataLoader(dataset, batch_size, sampler=order, collate_fn=collate)
    found = []
    for images, targets in progress_bar(loader, unit="batch", desc="evaluate", disable=not progress, leave=False):
        for detections, target in zip(model([i.to(device) for i in images]), targets, strict=True):
            rows = coco_rows(detections, int(target["image_id"]), dataset.category_ids)
            found.append((order[len(found)], rows))
    return [row for _, rows in sorted(gathered(found), key=itemgetter(0)) for row in rows]


def coco_rows(detections: dict[str, Tensor], image_id: int, category_ids: list[int]) -> list[dict]:
    """Convert an image's detections to COCO results."""
    boxes = box_convert(detections["boxes"].double(), "xyxy", "xywh")
    values = (boxes, detections["labels"], detections["scores"])
    return [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for box, label, score in zip(*(v.tolist() for v in values), strict=True)
    ]


def coco_metrics(ground_truth: dict, results: list[dict], backend: str | None = None) -> dict[str, float]:
    """COCO's twelve box metrics, and "AP/NAME" and "AP50/NAME" of every category that has a gt.

    backend: "pycocotools" or "faster-coco-eval"; None takes the faster one if it is installed. Metrics without a gt to
    measure are NaN. Raises InputError for a backend that is unknown or not installed.
    """
    run = run_evaluator(ground_truth, results, backend)
    stats = zip(NAMES, run.stats[:12], strict=True)
    metrics = {name: float(value) if value > -1 else float("nan") for name, value in stats}  # COCO has -1 for no gt
    precision = run.eval["precision"]  # by IoU threshold, recall, category, area, detections
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    for index, category in enumerate(run.params.catIds):
        values = precision[:, :, index, 0, -1]
        if (values > -1).any():
            metrics[f"AP/{names[category]}"] = float(values.mean())
            metrics[f"AP50/{names[category]}"] = float(values[0].mean())
    return metrics


def precision_curves(ground_truth: dict, results: list[dict], backend: str | None = None) -> PrecisionCurves:
    """Precision against recall, for each IoU threshold and class; `coco_metrics` computes its AP from it."""
    run = run_evaluator(ground_truth, results, backend)
    precision = np.array(run.eval["precision"][:, :, :, 0, -1], dtype=np.float64)  # all sizes, 100 detections
    precision[precision < 0] = np.nan
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    iou, recall = (np.array(values, dtype=np.float64) for values in (run.params.iouThrs, run.params.recThrs))
    return PrecisionCurves(iou, recall, precision, [names[category] for category in run.params.catIds])


def run_evaluator(ground_truth: dict, results: list[dict], backend: str | None = None):
    """Run the backend's COCOeval and return it; its `eval`, `params` and `stats` hold the results."""
    COCO, COCOeval = load_backend(backend)

    def index(annotations: list[dict]) -> COCO:
        coco = COCO()
        coco.dataset = {**ground_truth, "annotations": annotations}
        coco.createIndex()
        return coco

    results = [dict(result) for result in results]  # copies, because pycocotools modifies them
    with contextlib.redirect_stdout(io.StringIO()):  # both backends print tables
        rows = enumerate(ground_truth["annotations"], 1)  # ids from 1: COCOeval takes a matched id 0 for "no match"
        truth = index([{**row, "id": i} for i, row in rows])
        found = truth.loadRes(results) if results else index([])  # loadRes does not accept an empty list
        run = COCOeval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def load_backend(name: str | None):
    """The classes COCO and COCOeval of a backend. Raises InputError if it is unknown or not installed."""
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
