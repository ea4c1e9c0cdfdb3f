"""Noisy anchors: soft labels and weights by the cleanliness of anchors. Source: Li et al., CVPR 2020, and code."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, all_background, best, from_labels, top_k
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require

PerPoint = Float[Tensor, " n"]
FLOOR = 1e-6  # least value of 1 - x in f(x) = 1 / (1 - x), and of other divisors


@dataclass(frozen=True)
class NoisyAnchors(Assigner):
    """The anchors that overlap a gt most are positive; the better the prediction of one, the more it counts.

    An anchor is a square of `scale` strides on a point. Each gt nominates the `topk` anchors of highest IoU with it.
    A nominated anchor learns the gt with which it has its highest IoU. Let `loc` be the IoU of a positive's predicted
    box and its gt, and `cls` the predicted probability of the gt's class. As in the paper, the positive then has

    score:        the cleanliness alpha * loc + (1 - alpha) * cls
    label_weight, box_weight: (alpha * f(loc) + (1 - alpha) * f(cls)) ** gamma, f(x) = 1 / (1 - x), over its mean

    All means are over the positives of the image. With `rescale`, as in the authors' code, loc, cls, f(loc) and f(cls)
    are first divided by their means. The score is then mapped linearly onto [mean of loc, 1], and the weights are not
    divided by their mean.
    """

    topk: int = 30
    scale: float = 8.0
    alpha: float = 0.75
    gamma: float = 1.0
    rescale: bool = False

    def __post_init__(self) -> None:
        require("be a whole number of at least 1", topk=self.topk)
        require("be positive and finite", scale=self.scale)
        require("be in 0..1", alpha=self.alpha)
        require("be finite and not negative", gamma=self.gamma)

    def background_only(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        return replace(all_background(points), score=points.xy.new_zeros(len(points), dtype=torch.float64))

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        iou = box_ops.iou(points.boxes(self.scale), targets.boxes[:, None])  # (m, n)
        nominated = (top_k(iou, self.topk) & (iou > 0)).any(dim=0)  # an anchor that overlaps no gt learns none
        labels = best(iou, nominated.expand_as(iou))
        positive, owner = labels >= 0, labels.clamp(min=0)
        loc = box_ops.iou(predictions.boxes, targets.boxes[owner])
        cls = predictions.logits.gather(1, targets.labels[owner][:, None])[:, 0].double().sigmoid()
        score, weight = self.softened(loc, cls, positive)
        score, weight = score.where(positive, 0.0), weight.where(positive, 1.0)
        return replace(from_labels(labels, len(targets)), score=score, label_weight=weight, box_weight=weight)

    def softened(self, loc: PerPoint, cls: PerPoint, positive: Bool[Tensor, " n"]) -> tuple[PerPoint, PerPoint]:
        """The score and the weight of each positive."""

        def mix(loc: PerPoint, cls: PerPoint) -> PerPoint:
            return self.alpha * loc + (1 - self.alpha) * cls

        f_loc, f_cls = (1 / (1 - x).clamp(min=FLOOR) for x in (loc, cls))
        if not self.rescale:
            return mix(loc, cls), over_mean(mix(f_loc, f_cls) ** self.gamma, positive)
        least = mean(loc, positive)
        loc, cls, f_loc, f_cls = (over_mean(x, positive) for x in (loc, cls, f_loc, f_cls))
        value = mix(loc, cls)
        low = value.where(positive, torch.inf).amin()
        span = value.where(positive, -torch.inf).amax() - low
        return least + (1 - least) * (value - low) / span.clamp(min=FLOOR), mix(f_loc, f_cls) ** self.gamma


def mean(value: PerPoint, chosen: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """The mean of the chosen values, or 0 if none is chosen."""
    return value.where(chosen, 0.0).sum() / chosen.sum().clamp(min=1)


def over_mean(value: PerPoint, chosen: Bool[Tensor, " n"]) -> PerPoint:
    """All values divided by the mean of the chosen ones."""
    return value / mean(value, chosen).clamp(min=FLOOR)
