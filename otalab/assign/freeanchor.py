"""FreeAnchor: the losses choose from a bag of anchors per gt. Source: Zhang et al., NeurIPS 2019."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import box_convert

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, all_background, in_float64
from otalab.assign.soft import EPS, absent, hard_labels, present, working, working_dtype
from otalab.assign.types import AnchorPoints, Assignment, LossTerm, Predictions, Targets
from otalab.checks import require

MIN_SIDE = 1e-3  # px, smallest side whose logarithm is taken
STD = (0.1, 0.1, 0.2, 0.2)  # standard deviations of the deltas, as in RetinaNet


def deltas(boxes: Float[Tensor, "*#shape 4"], anchors: Float[Tensor, "*#shape 4"]) -> Float[Tensor, "*shape 4"]:
    """Boxes relative to anchors: centre offset and log ratio of the sides (at least `MIN_SIDE`), divided by `STD`."""
    box, anchor = box_convert(boxes, "xyxy", "cxcywh"), box_convert(anchors, "xyxy", "cxcywh")
    offset = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    ratio = box[..., 2:].clamp(min=MIN_SIDE) / anchor[..., 2:]
    return torch.cat((offset, ratio.log()), dim=-1) / boxes.new_tensor(STD)


@dataclass(frozen=True)
class Bags:
    """The fixed inputs of an image's losses: no gradient passes through them."""

    point: Int[Tensor, "m k"]  # the bag of each gt
    anchors: Float[Tensor, "m k 4"]  # their boxes
    gt_boxes: Float[Tensor, "m 4"]
    labels: Int[Tensor, " m"]
    found: Float[Tensor, "n C"]  # probability that the predicted box has found an object of the class


@dataclass(frozen=True)
class FreeAnchor(Assigner):
    """Each gt has a bag of `pre_anchor_topk` anchors of highest IoU; the losses (Sec. 3.2, 3.3) choose among them.

    Positive loss: -ln of the bag's mean-max probability. This is the mean of p weighted by 1 / (1 - p): it is near the
    mean while no p is high, and near the maximum once one is. Here p is the class probability times
    exp(-`reg_weight` * smooth L1 loss of the box).

    Negative loss: the focal loss of class probability times 1 - found. Here "found" is the probability that the
    predicted box has found a gt of that class. It rises from 0 at an IoU of `bbox_thr` to 1 at the gt's best IoU.

    Anchors are squares of `scale` strides. Those that do not overlap the gt come last in its bag, the nearest to its
    centre first. The labels are `hard_labels` of each anchor's part in its bag's probability.

    pre_anchor_topk: anchors in a bag; all of them, if there are fewer
    bbox_thr:        IoU up to which a predicted box has found nothing
    gamma:           focal exponent of the negative loss
    alpha:           weight of the positive loss; the negative loss has 1 - alpha
    reg_weight, reg_beta: weight of the smooth L1 loss, and the deviation at which it turns from quadratic to linear
    scale:           side of an anchor in strides
    """

    trains_quality: ClassVar[bool] = False
    own_losses: ClassVar[bool] = True

    pre_anchor_topk: int = 50
    bbox_thr: float = 0.6
    gamma: float = 2.0
    alpha: float = 0.5
    reg_weight: float = 0.75
    reg_beta: float = 0.11
    scale: float = 8.0

    def __post_init__(self) -> None:
        require("be a whole number of at least 1", pre_anchor_topk=self.pre_anchor_topk)
        require("be at least 0 and below 1", bbox_thr=self.bbox_thr)
        require("be finite and at least 1", gamma=self.gamma)
        require("be in 0..1", alpha=self.alpha)
        require("be finite and not negative", reg_weight=self.reg_weight)
        require("be positive and finite", reg_beta=self.reg_beta, scale=self.scale)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        bags = self.bags(points, predictions, targets)
        part = self.weighed(bags, predictions, bags.point.new_ones(len(points), dtype=torch.bool))
        part = part.new_zeros(len(targets), len(points)).scatter(1, bags.point, part)
        return replace(hard_labels(part), make_losses=partial(self.losses, bags))

    def background_only(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        bags = self.bags(*in_float64(points, predictions, targets))
        return replace(all_background(points), make_losses=partial(self.losses, bags))

    def bags(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Bags:
        """Compute the fixed inputs of the losses."""
        boxes, anchors = targets.boxes, points.boxes(self.scale)
        overlap = box_ops.iou(boxes[:, None], anchors)
        far = (box_ops.centres(boxes)[:, None] - points.xy).norm(dim=-1)
        order = overlap.where(overlap > 0, -far).sort(dim=1, descending=True, stable=True).indices
        point = order[:, : self.pre_anchor_topk]
        found = self.found(predictions, targets)
        return Bags(point, anchors[point], boxes, targets.labels, found.to(working_dtype(predictions.logits)))

    def found(self, predictions: Predictions, targets: Targets) -> Float[Tensor, "n C"]:
        """Probability that each predicted box has found an object of each class: a saturated linear function of IoU."""
        n, classes = predictions.logits.shape
        iou = box_ops.iou(targets.boxes[:, None], predictions.boxes)  # (m, n)
        highest = iou.amax(dim=1, keepdim=True).clamp(min=self.bbox_thr + EPS)
        each = ((iou - self.bbox_thr) / (highest - self.bbox_thr)).clamp(0, 1)
        which = targets.labels[:, None].expand(-1, n)
        return each.new_zeros(classes, n).scatter_reduce(0, which, each, "amax").T

    def weighed(self, bags: Bags, predictions: Predictions, kept: Bool[Tensor, " n"]) -> Float[Tensor, "m k"]:
        """Each anchor's part in the mean-max probability of its bag; the parts sum to this probability."""
        boxes = predictions.boxes
        anchors, gt_boxes = bags.anchors.to(boxes), bags.gt_boxes.to(boxes)[:, None]
        seen, wanted = deltas(boxes[bags.point], anchors), deltas(gt_boxes, anchors)
        loss = F.smooth_l1_loss(seen, wanted, reduction="none", beta=self.reg_beta).sum(dim=-1)
        logits = predictions.logits[bags.point, bags.labels[:, None]].to(boxes)
        probability = logits.sigmoid() * (-self.reg_weight * loss).exp()  # of both the class and the box
        weight = kept[bags.point] / (1 - probability).clamp(min=EPS)
        return weight / weight.sum(dim=1, keepdim=True).clamp(min=EPS) * probability

    def losses(self, bags: Bags, predictions: Predictions, kept: Bool[Tensor, " n"]) -> dict[str, LossTerm]:
        """The positive loss, counted by gts, and the negative loss, counted by the anchors in bags."""
        with torch.autocast(kept.device.type, enabled=False):
            predictions = working(predictions)
            positive = present(self.weighed(bags, predictions, kept).sum(dim=1))
            mistaken = (predictions.logits.sigmoid() * (1 - bags.found)).clamp(EPS, 1 - EPS)
            negative = (absent(mistaken, self.gamma) * kept[:, None]).sum()
        return {
            "positive": LossTerm(self.alpha * positive, positive.new_full((), len(bags.point))),
            "negative": LossTerm((1 - self.alpha) * negative, positive.new_full((), bags.point.numel())),
        }
