"""What a pair of a gt and a prediction costs in DETR: class + L1 + GIoU. Source: Carion et al., ECCV 2020, Sec. 3.1."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.points import AnchorPoints
from otalab.assign.types import Predictions, Targets
from otalab.assign.upload import upload
from otalab.errors import InputError

CLASSIFICATION = ("focal", "softmax")
NO_OBJECT = ("last", "zero")
ALPHA, GAMMA, EPS = 0.25, 2, 1e-12  # of the focal cost, in Deformable DETR and in mmdetection


@dataclass(frozen=True)
class DetrCost:
    """cls_weight * class + l1_weight * L1 - giou_weight * GIoU, the last two of the predicted box and the gt (Eq. 1).

    classification: "focal" (Zhu et al., ICLR 2021): the focal loss of a positive minus that of a negative, for heads
                    with a sigmoid for each class; "softmax": minus the probability of the gt's class (Eq. 1)
    no_object:      for "softmax" alone. "last": the softmax goes over the logits as they are, so that the last column
                    can be the no-object class, which no label may then name; this is DETR and mmdetection.
                    "zero": the logits have no such column, and one of zeros is appended
    cls_weight, l1_weight, giou_weight: as in DETR; Deformable DETR has a cls_weight of 2
    image_size:     (height, width) in px by which L1 divides the boxes (cx, cy, w, h). None takes the extent of the
                    finest feature map, or of the points of the finest level where their grid is unknown
    """

    classification: str = "focal"
    no_object: str = "last"
    cls_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("classification", self.classification, CLASSIFICATION),
            ("no_object", self.no_object, NO_OBJECT),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r} is none of {', '.join(known)}")
        for name in ("cls_weight", "l1_weight", "giou_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be finite and not negative, not {getattr(self, name)}")
        if self.image_size is not None and not (len(self.image_size) == 2 and min(self.image_size) > 0):
            raise InputError(f"image_size must be a positive (height, width), not {self.image_size}")

    def __call__(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Float[Tensor, "m n"]:
        """The cost of every pair, in float64; may be negative."""
        size = extent(points) if self.image_size is None else upload(self.image_size[::-1], points.xy.device).double()
        boxes, gt_boxes = (centre_and_size(b, size) for b in (predictions.boxes, targets.boxes))
        giou = box_ops.iou(predictions.boxes, targets.boxes[:, None], kind="giou")
        l1 = torch.cdist(gt_boxes, boxes, p=1)
        classes = self.class_cost(predictions.logits, targets.labels)
        return self.cls_weight * classes + self.l1_weight * l1 - self.giou_weight * giou

    def class_cost(self, logits: Float[Tensor, "n C"], labels: Int[Tensor, " m"]) -> Float[Tensor, "m n"]:
        """The class term, not weighted, in float64."""
        if self.classification == "softmax":
            scores = F.pad(logits, (0, 1)) if self.no_object == "zero" else logits
            return -scores.double().softmax(dim=-1).T[labels]
        p = logits[:, labels].double().sigmoid().T
        positive = -(p + EPS).log() * ALPHA * (1 - p) ** GAMMA
        return positive + (1 - p + EPS).log() * (1 - ALPHA) * p**GAMMA


def centre_and_size(boxes: Float[Tensor, "k 4"], extent: Float[Tensor, "2"]) -> Float[Tensor, "k 4"]:
    """(cx, cy, w, h) of xyxy boxes, in parts of the image's width and height."""
    return torch.cat((box_ops.centres(boxes) / extent, (boxes[:, 2:] - boxes[:, :2]) / extent), dim=1)


def extent(points: AnchorPoints) -> Float[Tensor, "2"]:
    """Width and height in px of the finest feature map; of the finest points and half a stride if that is unknown."""
    if points.grid is not None:
        (height, width), stride = points.grid.maps[0], points.grid.strides[0]
        return upload((width * stride, height * stride), points.xy.device).double()
    edge = points.xy + points.stride[:, None] / 2
    return edge.masked_fill((points.level > 0)[:, None], -torch.inf).amax(dim=0)
