"""MaxIoU: an anchor box learns a gt that it overlaps enough; each gt takes its best. Sources: RetinaNet, RPN."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, from_labels
from otalab.assign.types import BACKGROUND, IGNORED, AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require, require_known
from otalab.errors import InputError

LEARNERS = ("taker", "best")


def anchor_boxes(
    points: AnchorPoints, scales: tuple[float, ...] = (8.0,), ratios: tuple[float, ...] = (1.0,)
) -> Float[Tensor, "n a 4"]:
    """The anchor boxes of each point, one per scale and ratio, see `AnchorPoints.boxes`.

    All scales of the first ratio come first. If the points are anchors already, each has copies of that one alone.
    """
    return torch.stack([points.boxes(scale, ratio) for ratio in ratios for scale in scales], dim=1)


@dataclass(frozen=True)
class MaxIoU(Assigner):
    """An anchor box learns its best gt if their IoU is at least `pos_iou_thr`; below `neg_iou_thr` it is background.

    An anchor between the two thresholds is ignored. Then each gt takes the anchor that overlaps it most, and all that
    tie with it, whatever label they had: a low-quality match. An anchor that is best for several gts goes to the last
    of them.

    Defaults are those of RetinaNet (Lin et al., ICCV 2017, Sec. 4, "Anchors"). The RPN of Faster R-CNN (Ren et al.,
    NeurIPS 2015, Sec. 3.1.2) has (pos_iou_thr, neg_iou_thr, min_pos_iou) = (.7, .3, .3). Its second stage has (.5, .5)
    and no low-quality matches. Of the predictions, only `anchors` are used; if there are any, they replace the fixed
    ones.

    pos_iou_thr, neg_iou_thr: thresholds of the IoU with the best gt; of gts of equal IoU, the first
    min_pos_iou:      least IoU of a low-quality match, which must also exceed 0
    low_quality:      whether there are low-quality matches
    learner:          what a low-quality match learns: the gt that took it ("taker"), or the gt that it overlaps most,
                      even if that is another one ("best"), as in torchvision and Detectron2
    scales, ratios:   anchors of a point, see `anchor_boxes`; RetinaNet's nine are scales 4 * 2^(0, 1/3, 2/3) and
                      ratios (.5, 1, 2)

    A point with several anchors takes the label of the positive anchor that overlaps its gt most; ties go to the first.
    Without a positive anchor, the point is ignored if one of its anchors is, and otherwise background. `match` gives
    the labels of the anchors themselves.
    """

    pos_iou_thr: float = 0.5
    neg_iou_thr: float = 0.4
    min_pos_iou: float = 0.0
    low_quality: bool = True
    learner: str = "taker"
    scales: tuple[float, ...] = (8.0,)
    ratios: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        low, high = self.neg_iou_thr, self.pos_iou_thr
        if not (0 <= low <= high <= 1 and high > 0):
            raise InputError(
                f"neg_iou_thr and pos_iou_thr must be in 0..1, the first no larger, the second not 0, not {low, high}"
            )
        require_known(LEARNERS, learner=self.learner)
        require("be in 0..1", min_pos_iou=self.min_pos_iou)
        require("be one or more positive numbers", scales=self.scales, ratios=self.ratios)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        own = predictions.anchors
        anchors = anchor_boxes(points, self.scales, self.ratios) if own is None else own[:, None]  # (n, a, 4)
        iou = box_ops.iou(targets.boxes[:, None], anchors.flatten(0, 1))
        label = self.labels(iou)
        overlap = iou.gather(0, label.clamp(min=0)[None])[0]
        rank = torch.where(label >= 0, overlap, -3.0 - label)  # ignored -1, background -2
        choice = rank.view(len(points), -1).argmax(dim=1, keepdim=True)
        return from_labels(label.view(len(points), -1).gather(1, choice)[:, 0], len(targets))

    def match(self, anchors: Float[Tensor, "N 4"], gt_boxes: Float[Tensor, "m 4"]) -> Int[Tensor, " N"]:
        """The gt that each anchor box learns, -1 for background, -2 for ignored. There must be at least one gt."""
        return self.labels(box_ops.iou(gt_boxes[:, None], anchors))

    def labels(self, iou: Float[Tensor, "m N"]) -> Int[Tensor, " N"]:
        """As `match`, from the IoUs of all pairs."""
        overlap, owner = iou.max(dim=0)
        label = owner.masked_fill(overlap < self.pos_iou_thr, IGNORED)
        label = label.masked_fill(overlap < self.neg_iou_thr, BACKGROUND)
        if not self.low_quality:
            return label
        most = iou.amax(dim=1, keepdim=True)
        taken = (iou == most) & (most >= self.min_pos_iou) & (most > 0)
        if self.learner == "best":
            return torch.where(taken.any(dim=0), owner, label)
        index = torch.arange(len(iou), device=iou.device)[:, None]
        last = index.where(taken, -1).amax(dim=0)
        return torch.where(last >= 0, last, label)
