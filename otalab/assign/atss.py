"""ATSS: each gt's candidates set its IoU threshold. Source: Zhang et al., CVPR 2020, Sec. 4, Algorithm 1."""

from dataclasses import dataclass

import torch

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, best, from_labels
from otalab.assign.prior import closest_points, inside
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require


@dataclass(frozen=True)
class ATSS(Assigner):
    """Each gt has its own IoU threshold: the mean plus the standard deviation of its candidates' IoUs with it.

    Candidates are the points of each level that are closest to the gt's centre. A candidate is positive if its anchor
    box reaches the threshold and the point lies inside the gt. A point that is positive for several gts goes to the one
    that its anchor box overlaps most; ties go to the first. The standard deviation is that of a sample (divided by the
    number of candidates less one), and 0 for a single candidate. Predictions are not used.

    topk:   candidates of a gt on each level; a level with fewer points gives all of them
    scale:  side of the square anchor box on each point, in strides
    margin: a positive lies more than this many px inside its gt
    """

    topk: int = 9
    scale: float = 8.0
    margin: float = 0.01

    def __post_init__(self) -> None:
        require("be a whole number of at least 1", topk=self.topk)
        require("be positive and finite", scale=self.scale)
        require("be finite and not negative", margin=self.margin)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        boxes = targets.boxes
        near = closest_points(points, boxes, self.topk)  # (m, s)
        iou = box_ops.iou(points.boxes(self.scale)[near], boxes[:, None])
        excess = iou - iou[:, :1]  # equal IoUs then have a mean and deviation of exactly 0, and all pass
        deviation = excess.std(dim=1, keepdim=True) if iou.shape[1] > 1 else torch.zeros_like(excess)
        passed = excess >= excess.mean(dim=1, keepdim=True) + deviation
        allowed = torch.zeros(len(boxes), len(points), dtype=torch.bool, device=iou.device).scatter(1, near, passed)
        overlap = iou.new_zeros(allowed.shape).scatter(1, near, iou)
        return from_labels(best(overlap, allowed & inside(points, boxes, margin=self.margin)), len(boxes))
