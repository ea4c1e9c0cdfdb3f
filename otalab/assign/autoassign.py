"""AutoAssign: every point in a gt learns it, with weights that are learnt too. Source: Zhu et al., arXiv 2007.03496."""

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, all_background, in_float64, top_k
from otalab.assign.prior import inside
from otalab.assign.soft import EPS, absent, hard_labels, present, working, working_dtype
from otalab.assign.types import AnchorPoints, Assignment, LossTerm, Predictions, Targets
from otalab.checks import require
from otalab.errors import InputError

PerPair = Float[Tensor, " p"]


@dataclass(frozen=True)
class Insides:
    """The fixed inputs of an image's losses: the p pairs of a gt and a point inside it."""

    num_gt: int
    gt: Int[Tensor, " p"]
    point: Int[Tensor, " p"]
    label: Int[Tensor, " p"]  # class of the gt
    offset: Float[Tensor, "p 2"]  # from the gt's centre to the point, in strides
    gt_boxes: Float[Tensor, "p 4"]
    negative: Float[Tensor, "n C"]  # weight of each class at each point in the negative loss

    def per_gt(self, value: PerPair) -> Float[Tensor, " m"]:
        """The sum over the points of each gt."""
        return value.new_zeros(self.num_gt).index_add(0, self.gt, value)


@dataclass(eq=False, repr=False)
class AutoAssign(Assigner, nn.Module):
    """The losses weigh every point inside a gt by confidence and by a centre prior that is learnt as well (Sec. 3).

    Positive loss: -ln of the weighted mean of p in each gt. Here p is the class probability times objectness times
    exp(-`reg_weight` * GIoU loss), and its weight is exp(`confidence` * p) times the prior. The prior is a Gaussian of
    the offset from the gt's centre, in strides. Its mean and deviation are learnt per class after `for_classes` was
    called; before that, they are 0 and 1.

    Negative loss: the focal loss of class probability times objectness. Where a gt of that class contains the point,
    this product is first multiplied by 1 - w. Here w is 1 / (1 - IoU) of the predicted box and the gt that it overlaps
    most, of whatever class, scaled to 0..1 over the points inside the gt. If several gts of a class contain the point,
    the one listed last decides.

    Centre loss: the number of gts over the sum of all priors in them. It keeps the deviations from shrinking.

    The labels are `hard_labels` of the positive weights. A gt that contains no point has a constant loss.

    force_topk: give a gt that contains no point the `topk` points of highest prior
    pos_loss_weight, neg_loss_weight, centre_loss_weight: weights of the three losses
    reg_weight, confidence: see above
    gamma:      focal exponent of the negative loss
    """

    own_losses: ClassVar[bool] = True

    force_topk: bool = False
    topk: int = 9
    pos_loss_weight: float = 0.25
    neg_loss_weight: float = 0.75
    centre_loss_weight: float = 0.75
    reg_weight: float = 5.0
    confidence: float = 3.0
    gamma: float = 2.0

    def __post_init__(self) -> None:
        super().__init__()
        require("be a whole number of at least 1", topk=self.topk)
        require("be finite and at least 1", gamma=self.gamma)
        weights = "pos_loss_weight", "neg_loss_weight", "centre_loss_weight", "reg_weight", "confidence"
        require("be finite and not negative", **{name: getattr(self, name) for name in weights})
        self.register_parameter("mean", None)
        self.register_parameter("sigma", None)

    def for_classes(self, num_classes: int) -> "AutoAssign":
        """A copy whose prior has parameters to learn: `mean` and `sigma`, (C, 2) in strides."""
        learner = copy.deepcopy(self)
        learner.mean = nn.Parameter(torch.zeros(num_classes, 2))
        learner.sigma = nn.Parameter(torch.ones(num_classes, 2))
        return learner

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        insides = self.insides(points, predictions, targets)
        weight = self.weighed(insides, predictions)[1]
        dense = weight.new_zeros(len(targets), len(points)).index_put((insides.gt, insides.point), weight)
        return replace(hard_labels(dense), make_losses=partial(self.losses, insides))

    def background_only(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        insides = self.insides(*in_float64(points, predictions, targets))
        return replace(all_background(points), make_losses=partial(self.losses, insides))

    def insides(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Insides:
        """Compute the fixed inputs of the losses."""
        boxes, labels, classes = targets.boxes, targets.labels, predictions.logits.shape[1]
        if self.mean is not None and len(self.mean) < classes:
            raise InputError(f"the priors are of {len(self.mean)} classes, the logits of {classes}; see for_classes")
        offset = (points.xy - box_ops.centres(boxes)[:, None]) / points.stride[:, None]  # (m, n, 2)
        allowed = inside(points, boxes)
        if self.force_topk:
            missing = torch.where(allowed.any(dim=1), 0, self.topk)
            allowed = allowed | top_k(self.prior(offset, labels[:, None]), missing)
        negative = negative_weights(predictions, targets, allowed)
        gt, point = allowed.nonzero(as_tuple=True)
        return Insides(len(targets), gt, point, labels[gt], offset[gt, point], boxes[gt], negative)

    def prior(self, offset: Float[Tensor, "*pairs 2"], label: Int[Tensor, "*#pairs"]) -> Float[Tensor, "*pairs"]:
        """The centre prior of a point at that offset from a gt of that class: a Gaussian that is 1 at its mean."""
        if self.mean is None:
            distance = offset.square()
        else:
            variance = self.sigma[label].to(offset).square().clamp(min=EPS)
            distance = (offset - self.mean[label].to(offset)).square() / variance
        return (-distance.sum(dim=-1) / 2).exp()

    def weighed(self, insides: Insides, predictions: Predictions) -> tuple[PerPair, PerPair, PerPair]:
        """Probability, positive weight (before division by their sum in the gt) and prior of each pair."""
        boxes = predictions.boxes
        giou = box_ops.iou(boxes[insides.point], insides.gt_boxes.to(boxes), kind="giou")
        value = predictions.logits[insides.point, insides.label].to(boxes).sigmoid()
        if predictions.quality is not None:
            value = value * predictions.quality[insides.point].to(boxes).sigmoid()
        probability = value * (-self.reg_weight * (1 - giou)).exp()  # of both the class and the box
        prior = self.prior(insides.offset.to(probability), insides.label)
        return probability, (self.confidence * probability).exp() * prior, prior

    def losses(self, insides: Insides, predictions: Predictions, kept: Bool[Tensor, " n"]) -> dict[str, LossTerm]:
        """The positive loss, counted by gts; the negative loss, by the sum of priors; the centre loss, by images."""
        with torch.autocast(kept.device.type, enabled=False):
            predictions = working(predictions)
            used = kept[insides.point]
            probability, weight, prior = self.weighed(insides, predictions)
            weight, sum_of_priors = weight * used, (prior * used).sum()
            mean = insides.per_gt(weight * probability) / insides.per_gt(weight).clamp(min=EPS)
            joint = predictions.logits.sigmoid()
            if predictions.quality is not None:
                joint = joint * predictions.quality.sigmoid()[:, None]
            negative = (absent(joint * insides.negative, self.gamma) * kept[:, None]).sum()
            centre = torch.where(sum_of_priors > EPS, insides.num_gt / sum_of_priors.clamp(min=EPS), 0.0)
            number, one = negative.new_full((), insides.num_gt), negative.new_ones(())
        return {
            "positive": LossTerm(self.pos_loss_weight * present(mean), number),
            "negative": LossTerm(self.neg_loss_weight * negative, sum_of_priors.detach()),
            "centre": LossTerm(self.centre_loss_weight * centre, one),
        }


def negative_weights(predictions: Predictions, targets: Targets, allowed: Bool[Tensor, "m n"]) -> Float[Tensor, "n C"]:
    """Weight of each class at each point in the negative loss: 1, or less if a gt of the class contains the point."""
    n, classes = predictions.logits.shape
    iou = box_ops.iou(predictions.boxes, targets.boxes[:, None])
    none = iou.new_zeros(1, n)  # a first row, for points that lie in no gt
    sharp = 1 / (1 - torch.cat((none, iou)).amax(dim=0)).clamp(min=EPS)  # (n,)
    low = sharp.where(allowed, torch.inf).amin(dim=1, keepdim=True)
    high = sharp.where(allowed, -torch.inf).amax(dim=1, keepdim=True)
    scaled = torch.cat((none, (sharp - low + EPS) / (high - low + EPS)))
    row = torch.arange(1, len(targets) + 1, device=iou.device)[:, None].where(allowed, 0)
    last = row.new_zeros(classes, n).scatter_reduce(0, targets.labels[:, None].expand(-1, n), row, "amax")
    return (1 - scaled.gather(0, last)).T.to(working_dtype(predictions.logits))
