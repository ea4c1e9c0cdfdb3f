"""How well a detector finds gts of different kinds: recall and AP by size, crowding or another measure of the gts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab.boxes import box_area, iou
from otalab.detect.evaluate import coco_metrics
from otalab.lab.mistakes import as_tensors, by_image, gts_and_crowds, match

OUTSIDE = -1.0  # px^2, an area outside all of COCO's area ranges
SIZES = ("under 16", "16 to 32", "32 to 64", "64 or more")  # px; a bin includes its lower bound
SIZE_EDGES = (16.0, 32.0, 64.0)
CROWDING = ("0", "0 to 0.2", "0.2 to 0.5", "0.5 or more")  # the largest IoU with another gt
CROWDING_EDGES = (np.nextafter(0, 1), 0.2, 0.5)


@dataclass(frozen=True)
class GtBin:
    """How well the gts of a bin are found.

    gts:    how many gts the bin has
    recall: share of them found by a detection of their class at IoU >= 0.5, whatever its score
    AP:     COCO's AP with the gts of other bins ignored, see `gt_bins`

    Recall, AP and AP50 are NaN for a bin without gts.
    """

    name: str
    gts: int
    recall: float
    AP: float
    AP50: float


def size_bins(ground_truth: dict, results: Sequence[dict], backend: str | None = None) -> list[GtBin]:
    """Recall and AP by the size of gts, the square root of width times height in px; see `gt_bins`."""
    return gt_bins(ground_truth, results, lambda boxes: box_area(boxes).sqrt(), SIZE_EDGES, SIZES, backend)


def crowding_bins(ground_truth: dict, results: Sequence[dict], backend: str | None = None) -> list[GtBin]:
    """Recall and AP by the crowding of gts: each gt's largest IoU with another gt of its image, of any class.

    `iscrowd` regions do not count as other gts. See `gt_bins`.
    """
    return gt_bins(ground_truth, results, crowding, CROWDING_EDGES, CROWDING, backend)


def crowding(boxes: Float[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """The largest IoU of each box (xyxy px) with another; 0 for a single box."""
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
    """Recall and AP by a measure of the gts, with a bin between neighbouring `edges`, one below all and one above all.

    measure: a function from the boxes of all gts of an image, xyxy px, to one value per gt. `iscrowd` regions are not
             passed, as they are not gts
    ground_truth, results, backend: as `coco_metrics` takes them

    The AP of a bin is measured as COCO measures AP by area: gts outside the bin are ignored. A detection takes an
    ignored gt only if no gt of the bin is left for it. It must reach the usual IoU, each ignored gt is taken at most
    once, and the detection is then neither right nor wrong. (Marking these gts as `iscrowd` would need less overlap,
    and let each be taken many times.) A detection that takes no gt is wrong in every bin. So AP falls with a bin's
    share of the gts: use it to compare detectors on one data set, not to compare bins.

    The evaluator ignores gts whose area is out of range, so in a copy the gts outside the bin get such an area.
    """
    gts, crowds = gts_and_crowds(ground_truth["annotations"])
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
    """Which gts of an image a detection takes at IoU >= 0.5, see `match`; with `own` only one of the gt's class."""
    (gt_boxes, gt_labels), (boxes, labels) = as_tensors(gts), as_tensors(results)
    overlap = iou(boxes[:, None], gt_boxes)  # (d, m)
    if own:
        overlap = overlap * (labels[:, None] == gt_labels)
    scores = torch.tensor([row["score"] for row in results], dtype=torch.float64)
    return np.isin(np.arange(len(gts)), match(overlap, scores).numpy())
