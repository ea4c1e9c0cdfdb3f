"""How well a detector finds the gts of each kind: recall and AP by their size, their crowding or another measure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab.boxes import box_area, iou
from otalab.detect.evaluate import coco_metrics
from otalab.lab.mistakes import FOUND_IOU, as_tensors, by_image, match

OUTSIDE = -1.0  # px^2, an area that lies in none of COCO's ranges
SIZES = ("under 16", "16 to 32", "32 to 64", "64 or more")  # px; its least value belongs to a bin
SIZE_EDGES = (16.0, 32.0, 64.0)
CROWDING = ("0", "0 to 0.2", "0.2 to 0.5", "0.5 or more")  # the largest IoU with another gt
CROWDING_EDGES = (np.nextafter(0, 1), 0.2, 0.5)


@dataclass(frozen=True)
class GtBin:
    """How well the gts of a bin are found.

    recall: share found by a detection of their class at IoU 0.5, whatever its score
    AP:     COCO's, with the gts of other bins ignored (`gt_bins`); NaN where there is no gt, like recall and AP50
    """

    name: str
    gts: int
    recall: float
    AP: float
    AP50: float


def size_bins(ground_truth: dict, results: Sequence[dict], backend: str | None = None) -> list[GtBin]:
    """Recall and AP by the size of gts: the square root of width times height, px; see `gt_bins`."""
    return gt_bins(ground_truth, results, lambda boxes: box_area(boxes).sqrt(), SIZE_EDGES, SIZES, backend)


def crowding_bins(ground_truth: dict, results: Sequence[dict], backend: str | None = None) -> list[GtBin]:
    """Recall and AP by the crowding of gts: each one's largest IoU with another gt of its image, of any class.

    `iscrowd` regions crowd none; see `gt_bins`.
    """
    return gt_bins(ground_truth, results, crowding, CROWDING_EDGES, CROWDING, backend)


def crowding(boxes: Float[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """The largest IoU of each box, xyxy px, with another; 0 for one alone."""
    overlap = iou(boxes[:, None], boxes).fill_diagonal_(0)
    return torch.cat((overlap, overlap.new_zeros(len(boxes), 1)), dim=1).amax(dim=1)


def gt_bins(
    ground_truth: dict,
    results: Sequence[dict],
    measure: Callable[[Float[Tensor, "m 4"]], Float[Tensor, " m"]],
    edges: Sequence[float],
    names: Sequence[str],
    backend: str | None = None,
) -> list[GtBin]:
    """Recall and AP by a measure of the gts: a bin between every two of the `edges`, one below and one above them.

    measure: of all gts of an image, given as boxes in xyxy px. `iscrowd` regions are no gts, and are not among them
    ground_truth, results, backend: as `coco_metrics` takes them

    The AP of a bin is measured as COCO measures that of an area range: gts outside the bin are ignored. A detection
    takes one of these only where no gt of the bin is left for it, at the usual IoU, and each is taken once; the
    detection is then neither right nor wrong. (`iscrowd` would ask for less overlap, and take many.) A detection that
    takes no gt is wrong in every bin. So AP falls with a bin's share of the gts: compare detectors on one data set by
    it, not bins.

    The evaluator ignores gts of an area out of range, so those outside the bin get such an area in a copy.
    """
    gts = [row for row in ground_truth["annotations"] if not row.get("iscrowd")]
    crowds = [row for row in ground_truth["annotations"] if row.get("iscrowd")]
    said, ordered, values, found = by_image(results), [], [], []
    for image, rows in by_image(gts).items():
        ordered += rows
        values += measure(as_tensors(rows)[0]).tolist()
        found += found_gts(rows, said[image]).tolist()
    of, found = np.digitize(values, edges), np.array(found, dtype=bool)
    bins = []
    for index, name in enumerate(names):
        inside = of == index
        if not inside.any():
            bins.append(GtBin(name, 0, np.nan, np.nan, np.nan))
            continue
        marked = [row if there else row | {"area": OUTSIDE} for row, there in zip(ordered, inside, strict=True)]
        metrics = coco_metrics({**ground_truth, "annotations": marked + crowds}, results, backend)
        recall = float(found[inside].mean())
        bins.append(GtBin(name, int(inside.sum()), recall, metrics["AP"], metrics["AP50"]))
    return bins


def found_gts(gts: Sequence[dict], results: Sequence[dict], own: bool = True) -> Bool[np.ndarray, " m"]:
    """Which gts of an image a detection takes at IoU 0.5, see `match`: one of their `own` class, or of any."""
    (gt_boxes, gt_labels), (boxes, labels) = as_tensors(gts), as_tensors(results)
    overlap = iou(boxes[:, None], gt_boxes)  # (d, m)
    if own:
        overlap = overlap * (labels[:, None] == gt_labels)
    scores = torch.tensor([row["score"] for row in results], dtype=torch.float64)
    near = (overlap >= FOUND_IOU).any(dim=1)  # few: the others take nothing
    return np.isin(np.arange(len(gts)), match(overlap[near], scores[near]).numpy())
