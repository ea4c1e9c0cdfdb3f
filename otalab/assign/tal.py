"""Task-aligned assignment: score and box decide together. Source: Feng et al., TOOD, ICCV 2021, Sec. 3.2."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, all_background, best, from_labels, top_k
from otalab.assign.cost import fixed_k
from otalab.assign.prior import inside
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require, require_known

READINGS = {"tood": 0.01, "ultralytics": 1e-9}  # and px that a point must lie inside its gt
OVERLAPS = ("iou", "ciou")
ULTRALYTICS = {"topk": 10, "alpha": 0.5, "overlap": "ciou", "least_side": 16.0, "reading": "ultralytics"}
EPS = 1e-7  # that an alignment is normalised by no zero


@dataclass(frozen=True)
class TaskAligned(Assigner):
    """Each gt takes the `topk` points of highest alignment s^alpha * IoU^beta if they lie inside it.

    s is the probability of the gt's class, IoU that of predicted box and gt. Of the gts that take a point, the one of
    highest IoU gets it. Points outside count among the `topk` and are dropped afterwards, as are alignments of 0, so
    that a gt may get fewer points, or none.

    A positive's score is its alignment over the highest of its gt's positives, times their highest IoU (Sec. 3.2.2);
    it is also the weight of its box loss, and the sum of the weights the normaliser of both losses.

    overlap:    "iou", or "ciou" in its place throughout, negative ones as 0
    least_side: px; for "inside", a side that is shorter counts as so long, about the gt's centre
    reading:    "tood" as above, or "ultralytics": only points inside count among the `topk`, and a point that several
                take goes to the gt of highest IoU that it lies inside, be it one that did not take it. There a gt that
                has fewer aligned points takes some of alignment 0 as well, by chance; here it does not
    The defaults are those of the paper; `TaskAligned(**ULTRALYTICS)` is that of Ultralytics 8.4, for strides from 8.
    """

    topk: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    overlap: str = "iou"
    least_side: float = 0.0
    reading: str = "tood"

    def __post_init__(self) -> None:
        require_known(READINGS, reading=self.reading)
        require_known(OVERLAPS, overlap=self.overlap)
        require("be a whole number of at least 1", topk=self.topk)
        require("be finite and not negative", alpha=self.alpha, beta=self.beta, least_side=self.least_side)

    def background_only(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        return replace(all_background(points), score=points.xy.new_zeros(len(points), dtype=torch.float64))

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        boxes, m = targets.boxes, len(targets)
        iou = box_ops.iou(predictions.boxes, boxes[:, None], kind=self.overlap).clamp(min=0)
        probability = predictions.logits[:, targets.labels].double().sigmoid().T
        alignment = probability**self.alpha * iou**self.beta  # (m, n)
        here = inside(points, widened(boxes, self.least_side), margin=READINGS[self.reading])
        if self.reading == "ultralytics":
            alignment = alignment.where(here, 0.0)
        taken = top_k(alignment, fixed_k(m, self.topk, boxes.device)) & (alignment > 0)
        if self.reading == "ultralytics":
            taken |= taken.sum(dim=0) > 1
        matched_gt = best(iou, taken & here)
        mine = matched_gt == torch.arange(m, device=boxes.device)[:, None]
        alignment, iou = alignment.where(mine, 0.0), iou.where(mine, 0.0)
        peak = alignment.amax(dim=1, keepdim=True) + EPS
        score = (alignment / peak * iou.amax(dim=1, keepdim=True)).sum(dim=0)  # (n,), 0 for the background
        return replace(from_labels(matched_gt, m), score=score, box_weight=score)


def widened(boxes: Float[Tensor, "m 4"], least: float) -> Float[Tensor, "m 4"]:
    """The boxes, no side shorter than `least` px, about the same centres."""
    return box_ops.around(box_ops.centres(boxes), ((boxes[:, 2:] - boxes[:, :2]).clamp(min=least) / 2).repeat(1, 2))
