"""Task-aligned assignment: score and box decide together. Source: Feng et al., TOOD, ICCV 2021, Sec. 3.2."""

from dataclasses import dataclass, replace

import torch

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, all_background, best, from_labels, top_k
from otalab.assign.cost import fixed_k
from otalab.assign.options import require
from otalab.assign.prior import inside
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets

MARGIN = 0.01  # px that a point must lie inside its gt
EPS = 1e-7  # that an alignment is normalised by no zero


@dataclass(frozen=True)
class TaskAligned(Assigner):
    """Each gt takes the `topk` points of highest alignment s^alpha * IoU^beta if they lie inside it.

    s is the probability of the gt's class, IoU that of predicted box and gt. Of the gts that take a point, the one of
    highest IoU gets it. Points outside count among the `topk` and are dropped afterwards, as are alignments of 0, so
    that a gt may get fewer points, or none.

    A positive's score is its alignment over the highest of its gt's positives, times their highest IoU (Sec. 3.2.2);
    it is also the weight of its box loss, and the sum of the weights the normaliser of both losses.
    """

    topk: int = 13
    alpha: float = 1.0
    beta: float = 6.0

    def __post_init__(self) -> None:
        require("be a whole number of at least 1", topk=self.topk)
        require("be finite and not negative", alpha=self.alpha, beta=self.beta)

    def background_only(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        return replace(all_background(points), score=points.xy.new_zeros(len(points), dtype=torch.float64))

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        boxes, m = targets.boxes, len(targets)
        iou = box_ops.iou(predictions.boxes, boxes[:, None])
        probability = predictions.logits[:, targets.labels].double().sigmoid().T
        alignment = probability**self.alpha * iou**self.beta  # (m, n)
        taken = top_k(alignment, fixed_k(m, self.topk, boxes.device)) & (alignment > 0)
        matched_gt = best(iou, taken & inside(points, boxes, margin=MARGIN))
        mine = matched_gt == torch.arange(m, device=boxes.device)[:, None]
        alignment, iou = alignment.where(mine, 0.0), iou.where(mine, 0.0)
        peak = alignment.amax(dim=1, keepdim=True) + EPS
        score = (alignment / peak * iou.amax(dim=1, keepdim=True)).sum(dim=0)  # (n,), 0 for the background
        return replace(from_labels(matched_gt, m), score=score, box_weight=score)
