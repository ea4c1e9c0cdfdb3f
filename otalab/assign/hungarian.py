"""DETR's matching: one point per gt, at the least total cost. Source: Carion et al., ECCV 2020, Sec. 3.1."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, from_labels
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require, require_known

CLASSIFICATION = ("focal", "softmax")
NO_OBJECT = ("last", "zero")
ALPHA, GAMMA, EPS = 0.25, 2, 1e-12  # of the focal cost, as in Deformable DETR and in mmdetection


@dataclass(frozen=True)
class DetrCost:
    """cls_weight * class + l1_weight * L1 - giou_weight * GIoU, the last two of the predicted box and the gt (Eq. 1).

    classification: "focal" (Zhu et al., ICLR 2021): the focal loss of a positive minus that of a negative, for heads
                    with a sigmoid per class; "softmax": minus the probability of the gt's class (Eq. 1)
    no_object:      for "softmax" alone. "last": the softmax is taken over the logits as they are, so the last column
                    can be the no-object class, which no gt may then have as its label; DETR and mmdetection do this.
                    "zero": the logits have no such column, so a column of zeros is appended
    cls_weight, l1_weight, giou_weight: as in DETR; Deformable DETR has a cls_weight of 2
    image_size:     (height, width) in px, by which the boxes (cx, cy, w, h) are divided for L1. None means the extent
                    of the finest feature map or, if the points have no grid, of the points of the finest level
    """

    classification: str = "focal"
    no_object: str = "last"
    cls_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        require_known(CLASSIFICATION, classification=self.classification)
        require_known(NO_OBJECT, no_object=self.no_object)
        weights = {"cls_weight": self.cls_weight, "l1_weight": self.l1_weight, "giou_weight": self.giou_weight}
        require("be finite and not negative", **weights)
        if self.image_size is not None:
            require("be a positive (height, width)", image_size=self.image_size)

    def __call__(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Float[Tensor, "m n"]:
        """The cost of every pair, in float64. It may be negative."""
        size = extent(points) if self.image_size is None else predictions.boxes.new_tensor(self.image_size[::-1])
        boxes, gt_boxes = (
            box_convert(b, "xyxy", "cxcywh") / size.repeat(2) for b in (predictions.boxes, targets.boxes)
        )
        giou = box_ops.iou(predictions.boxes, targets.boxes[:, None], kind="giou")
        l1 = torch.cdist(gt_boxes, boxes, p=1)
        classes = self.class_cost(predictions.logits, targets.labels)
        return self.cls_weight * classes + self.l1_weight * l1 - self.giou_weight * giou

    def class_cost(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " m"]) -> Float[Tensor, "m n"]:
        """The class term before it is weighted, in float64."""
        if self.classification == "softmax":
            scores = F.pad(logits, (0, 1)) if self.no_object == "zero" else logits
            return -scores.double().softmax(dim=-1).T[labels]
        p = logits[:, labels].double().sigmoid().T
        positive = -(p + EPS).log() * ALPHA * (1 - p) ** GAMMA
        return positive + (1 - p + EPS).log() * (1 - ALPHA) * p**GAMMA


def extent(points: AnchorPoints) -> Float[Tensor, "2"]:
    """Width and height in px of the finest feature map; without a grid, of the finest points plus half a stride."""
    if points.grid is not None:
        (height, width), stride = points.grid.maps[0], points.grid.strides[0]
        return points.xy.new_tensor((width * stride, height * stride))
    edge = points.xy + points.stride[:, None] / 2
    return edge.masked_fill((points.level > 0)[:, None], -torch.inf).amax(dim=0)


@dataclass(frozen=True)
class Hungarian(Assigner):
    """Every gt gets a point of its own, at the least total cost (Eq. 1); all other points are background.

    cost: see `DetrCost`. `DetrCost(classification="softmax")` is DETR's own; the default is for heads with sigmoids

    With more gts than points, each point gets a gt, and `deficit` says which gts got none. SciPy solves the problem on
    the CPU: the costs are copied there in float64, and the matches are copied back. If several matchings cost the same,
    SciPy decides.
    """

    cost: DetrCost = field(default_factory=DetrCost)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        gt, point = linear_sum_assignment(self.cost(points, predictions, targets).cpu().numpy())
        gt, point = (torch.from_numpy(index).to(targets.labels) for index in (gt, point))
        labels = targets.labels.new_full((len(points),), -1).index_put_((point,), gt)
        return from_labels(labels, len(targets), k=1)
