"""Task-aligned assignment: class score and box decide together. Source: Feng et al., TOOD, ICCV 2021, Sec. 3.2."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, all_background, best, from_labels, top_k
from otalab.assign.prior import inside
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require, require_known

READINGS = {"tood": 0.01, "ultralytics": 1e-9}  # reading: px that a point must lie inside its gt
OVERLAPS = ("iou", "ciou")
ULTRALYTICS = {"topk": 10, "alpha": 0.5, "overlap": "ciou", "least_side": 16.0, "reading": "ultralytics"}
EPS = 1e-7  # keeps the normalisation of alignments from dividing by 0


@dataclass(frozen=True)
class TaskAligned(Assigner):
    """Each gt takes the `topk` points of highest alignment s^alpha * IoU^beta, if they lie inside it.

    Here s is the predicted probability of the gt's class, and IoU is that of the predicted box and the gt. A point that
    several gts take goes to the one of highest IoU. Points outside the gt count among the `topk` and are dropped
    afterwards, as are points of alignment 0. So a gt may get fewer points, or none.

    A positive's score is its alignment divided by the highest of its gt's positives, times their highest IoU (Sec.
    3.2.2). The score is also the weight of its box loss, and the sum of these weights normalises both losses.

    overlap:    "iou", or "ciou" to replace IoU throughout, where negative values count as 0
    least_side: px; in the test whether a point lies inside a gt, shorter sides are lengthened to this around the centre
    reading:    "tood" as above, or "ultralytics". In the latter, only points inside count among the `topk`, and a
                point that several gts take goes to the gt of highest IoU that contains it, even one that did not take
                it. For a gt with fewer aligned points, Ultralytics' code also takes arbitrary points of alignment 0;
                this code does not

    The defaults are those of the paper. `TaskAligned(**ULTRALYTICS)` is that of Ultralytics 8.4, for strides from 8.
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
        taken = top_k(alignment, self.topk) & (alignment > 0)
        if self.reading == "ultralytics":
            taken |= taken.sum(dim=0) > 1
        matched_gt = best(iou, taken & here)
        mine = matched_gt == torch.arange(m, device=boxes.device)[:, None]
        alignment, iou = alignment.where(mine, 0.0), iou.where(mine, 0.0)
        peak = alignment.amax(dim=1, keepdim=True) + EPS
        score = (alignment / peak * iou.amax(dim=1, keepdim=True)).sum(dim=0)  # (n,), 0 for the background
        return replace(from_labels(matched_gt, m), score=score, box_weight=score)


def widened(boxes: Float[Tensor, "m 4"], least: float) -> Float[Tensor, "m 4"]:
    """The boxes with sides lengthened to at least `least` px around the same centres."""
    return box_ops.around(box_ops.centres(boxes), ((boxes[:, 2:] - boxes[:, :2]).clamp(min=least) / 2).repeat(1, 2))
