"""The cost of a label: Eq. 2 (gt to anchor) and Eq. 3 (background to anchor), and the supplies of Sec. 3.3.

The one-hot targets of a gt and of the background differ in a single class. The classification losses, summed over all C
classes, therefore differ in a single term: c_fg = c_bg + [loss(1) - loss(0)](logit of the gt's class) + alpha *
regression. No (m, n, C) tensor is ever made. The dtype is that of the input; the assigners pass float64.
"""

from dataclasses import dataclass
from functools import partial
from math import inf

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from otalab import boxes as box_ops
from otalab.assign.types import AnchorPoints, Predictions, Targets
from otalab.checks import require, require_known
from otalab.errors import InputError

CLASSIFICATION = {  # of logits and targets, elementwise
    "focal": sigmoid_focal_loss,  # with alpha .25 and gamma 2
    "ce": partial(F.binary_cross_entropy_with_logits, reduction="none"),
}
REGRESSION = ("iou", "giou", "smooth-l1")
Pairs = Float[Tensor, "*pairs"]  # a number per pair of a gt and an anchor point
PairBoxes = Float[Tensor, "*#pairs 4"]


@dataclass(frozen=True)
class Cost:
    """Eq. 2: classification + alpha * regression, with both losses chosen by name (Sec. 3.2 allows replacements).

    cls:   "focal" (Algorithm 1) or "ce"
    reg:   "iou" (-ln IoU), "giou" (1 - GIoU) or "smooth-l1" (of the four sides, in strides, summed)
    alpha: weight of the regression loss
    """

    cls: str = "focal"
    reg: str = "iou"
    alpha: float = 1.5

    def __post_init__(self) -> None:
        require_known(CLASSIFICATION, cls=self.cls)
        require_known(REGRESSION, reg=self.reg)
        require("be finite and not negative", alpha=self.alpha)

    def background(self, logits: Float[Tensor, "n C"]) -> Float[Tensor, " n"]:
        """Eq. 3: the loss of every class against "no object"."""
        return CLASSIFICATION[self.cls](logits, torch.zeros_like(logits)).sum(dim=-1)

    def classification(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " m"]) -> Float[Tensor, "m n"]:
        """First term of Eq. 2: the loss of every class against the one-hot target of each gt.

        Up to rounding, this is `background` plus the difference in the gt's class. It is computed as a sum over all
        classes, so that it agrees to the last bit with the sum over a dense (m, n, C) loss. Those bits matter once a
        constant of 1e6 is added. Makes one (n, C) tensor per class that occurs in `labels`.
        """
        if len(labels) == 0:
            return logits.new_zeros(0, len(logits))
        loss = CLASSIFICATION[self.cls]
        yes, no = loss(logits, torch.ones_like(logits)), loss(logits, torch.zeros_like(logits))
        classes = torch.arange(logits.shape[1], device=logits.device)
        present, which = labels.unique(return_inverse=True)
        return torch.stack([torch.where(classes == c, yes, no).sum(dim=-1) for c in present])[which]

    def regression(self, iou: Pairs, boxes: PairBoxes, gt_boxes: PairBoxes, stride: Float[Tensor, "*#pairs"]) -> Pairs:
        """Second term of Eq. 2, including the factor alpha; `iou` is that of the predicted box and the gt."""
        if self.reg == "iou":
            loss = box_ops.iou_loss(iou)
        elif self.reg == "giou":
            loss = 1 - box_ops.iou(boxes, gt_boxes, kind="giou")
        else:
            sides = (boxes - gt_boxes) / stride[..., None]
            loss = F.smooth_l1_loss(sides, torch.zeros_like(sides), reduction="none").sum(dim=-1)
        return self.alpha * loss

    def over_background(
        self, class_logits: Pairs, iou: Pairs, boxes: PairBoxes, gt_boxes: PairBoxes, stride: Float[Tensor, "*#pairs"]
    ) -> Pairs:
        """Eq. 2 minus Eq. 3 for pairs of a gt and an anchor point; all classes but the gt's cancel.

        `class_logits` holds, for each pair, the point's logit of the gt's class.
        """
        loss = CLASSIFICATION[self.cls]
        yes, no = loss(class_logits, torch.ones_like(class_logits)), loss(class_logits, torch.zeros_like(class_logits))
        return yes - no + self.regression(iou, boxes, gt_boxes, stride)

    def dense(
        self, points: AnchorPoints, predictions: Predictions, targets: Targets, mask: Bool[Tensor, "m n"], off_prior=inf
    ) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m1 n"]]:
        """All IoUs and the full cost matrix, background row last, in float64; adds `off_prior` outside the mask."""
        corner = points.xy.repeat(1, 2)  # boxes relative to the point, as in the authors' code
        boxes, gt_boxes = predictions.boxes - corner, targets.boxes[:, None] - corner  # (n, 4), (m, n, 4)
        logits = predictions.logits.double()
        iou = box_ops.iou(boxes, gt_boxes)
        foreground = self.classification(logits, targets.labels) + self.regression(iou, boxes, gt_boxes, points.stride)
        foreground = foreground.where(mask, foreground + off_prior)
        return iou, torch.cat((foreground, self.background(logits)[None]))


def dynamic_k(iou: Float[Tensor, "m n"], q: int = 20, slack: float = 0.0) -> Int[Tensor, " m"]:
    """Number of labels that each gt supplies: the sum of its q highest IoUs, rounded down, at least 1 (Sec. 3.3).

    With fewer than q anchor points, the sum is over all of them. `slack` is added before rounding down, so that twenty
    IoUs of 0.1, whose sum in floating point may be 1.9999998, count as 2 and not as 1.
    """
    if q < 1:
        raise InputError(f"dynamic k sums the top q IoUs; q is {q}, it must be at least 1")
    top = iou.topk(min(q, iou.shape[1]), dim=1).values
    return (top.sum(dim=1) + slack).to(torch.int64).clamp(min=1)


def fixed_k(num_gt: int, k: int, device: torch.device | str | None = None) -> Int[Tensor, " m"]:
    """The same supply k for each gt (Eq. 4)."""
    if k < 0:
        raise InputError(f"k is {k}; a gt cannot supply less than 0 labels")
    return torch.full((num_gt,), k, dtype=torch.int64, device=device)
