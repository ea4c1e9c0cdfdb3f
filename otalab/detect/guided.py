"""GuidedAnchoring: a detector that predicts anchors, their places and shapes, and compares them with the gts.

Source: Wang et al., Region Proposal by Guided Anchoring, CVPR 2019; its one-stage form, on our head. The constants are
those of the authors' code (GA-RetinaNet in mmdetection). Three things are as everywhere in otalab, for comparison: each
point has one prediction, there is a quality branch, and all losses are divided by the positives of the batch.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d, sigmoid_focal_loss

from otalab.assign import AnchorPoints, MaxIoU, Predictions, Targets
from otalab.assign.prior import inside
from otalab.boxes import box_area, centres
from otalab.detect.device import full_precision
from otalab.detect.head import Head
from otalab.detect.padding import without_padding

BASE = 4  # a side in strides if the prediction is 0: the paper's sigma, which is 8 in its two-stage form
CENTRE, AROUND = 0.2, 0.5  # fractions of a gt's sides: locations within CENTRE are right, within AROUND not wrong
SAMPLED = MaxIoU(scales=tuple(BASE * 2 ** (i / 3) for i in range(3)), ratios=(0.5, 1.0, 2.0))  # the shapes to try
LEAST_LOCATION = 0.01  # in evaluation, points of lower probability detect nothing
NOT_RIGHT = 0.1  # weight in the loss of points where an anchor would be wrong: there are many
GROUPS = 4  # of channels, each with its own offsets


class GuidedHead(Head):
    """The head, with an anchor at each point whose half sides are BASE / 2 * stride * exp(shape), Eq. 2.

    A deformable convolution adapts the features to the anchor's shape, from which its offsets are computed. Box sides
    are measured in half sides of the anchor. Anchors receive gradients only from their own loss.
    """

    def __init__(self, channels: int, num_classes: int, num_convs: int, strides: tuple[int, ...], bias: bool = False):
        super().__init__(channels, num_classes, num_convs, strides, bias)
        self.location = nn.Conv2d(channels, 1, 1)
        self.shape = nn.Conv2d(channels, 2, 1)
        self.offsets = nn.Conv2d(2, 2 * 9 * GROUPS, 1, bias=False)
        self.adapt_class = DeformConv2d(channels, channels, 3, padding=1, bias=False)
        self.adapt_box = DeformConv2d(channels, channels, 3, padding=1, bias=False)
        for layer in (self.location, self.shape):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        for layer in (self.adapt_class, self.adapt_box):
            nn.init.normal_(layer.weight, std=0.01)
        self.location.bias.data.copy_(self.logits.bias.data[:1])  # start at a probability of 0.01
        nn.init.normal_(self.offsets.weight, std=0.1)

    def level(self, feature: Float[Tensor, "b c h w"], stride: int, scale: Tensor) -> Float[Tensor, "b rows h w"]:
        seen, box_seen = self.class_tower(feature), self.box_tower(feature)
        location, shape = self.location(seen), self.shape(box_seen).to(scale.dtype)
        with full_precision(feature.device):  # CPUs lack deformable convolutions in half precision
            offsets = self.offsets(shape.detach())
            seen, box_seen = (
                without_padding(torch.relu(adapt(x.to(scale.dtype), offsets)))
                for adapt, x in ((self.adapt_class, seen), (self.adapt_box, box_seen))
            )
            half = BASE / 2 * stride * shape.clamp(-4, 4).exp()  # (b, 2, h, w) px
            sides = torch.relu(scale * self.sides(box_seen)) * half.detach().repeat(1, 2, 1, 1)
        return torch.cat((self.logits(seen), sides, self.quality(box_seen), half, location), dim=1)

    def parts(self, rows: Float[Tensor, "b n rows"]) -> tuple[Tensor, ...]:
        """Logits, sides, quality, half sides of anchors, location. In evaluation, logits are low where no anchor is."""
        logits, sides, quality, half, location = rows.split((self.num_classes, 4, 1, 2, 1), dim=2)
        if not self.training:
            logits = logits.masked_fill(location.sigmoid() < LEAST_LOCATION, -1e4)
        return logits, sides, quality.squeeze(2), half, location.squeeze(2)

    def own_losses(
        self, points: Sequence[AnchorPoints], predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """Focal loss of locations, and bounded IoU loss of shapes at the points to which `SAMPLED` assigns a gt."""
        location, shape = [], []
        for own, p, t in zip(points, predictions, targets, strict=True):
            right, weight = location_targets(own, t)
            focal = sigmoid_focal_loss(p.location, right.to(p.location))
            location.append((focal * weight).sum())
            owner = SAMPLED(own, replace(p, anchors=None), t).matched_gt
            positive = owner >= 0
            sizes = [box[:, 2:] - box[:, :2] for box in (p.anchors[positive], t.boxes[owner[positive]].to(p.anchors))]
            shape.append(bounded_iou_loss(*sizes).sum())
        return {"location": torch.stack(location).sum(), "shape": torch.stack(shape).sum()}


def location_targets(points: AnchorPoints, targets: Targets) -> tuple[Bool[Tensor, " n"], Float[Tensor, " n"]]:
    """Which points are right for an anchor, and the weight of each point in the loss.

    A point is right if it lies in the middle of a gt, which is at least a cell wide, and on the level whose anchors of
    BASE strides have about the gt's size. Right points have weight 1. Other points around the middle, on this level and
    its neighbours, have weight 0, and so have points in ignore regions. All others have weight NOT_RIGHT.
    """
    boxes = targets.boxes.to(points.xy)
    strides = points.stride.unique()  # from the finest on
    level = (box_area(boxes).sqrt().clamp(min=1) / (BASE * strides[0])).log2().round().clamp(0, len(strides) - 1)
    away = (points.xy - centres(boxes)[:, None]).abs()  # (m, n, 2) px
    half, half_cell = (boxes[:, 2:] - boxes[:, :2])[:, None] / 2, points.stride[:, None] / 2
    middle, vicinity = ((away <= (part * half).maximum(half_cell)).all(dim=2) for part in (CENTRE, AROUND))
    levels_off = (points.level - level[:, None]).abs()  # (m, n)
    right = (middle & (levels_off == 0)).any(dim=0)
    unsure = (vicinity & (levels_off <= 1)).any(dim=0)
    if targets.ignore_boxes is not None:
        unsure |= inside(points, targets.ignore_boxes.to(points.xy)).any(dim=0)
    weight = torch.where(unsure, 0.0, NOT_RIGHT).to(points.xy).masked_fill(right, 1.0)
    return right, weight


def bounded_iou_loss(size: Float[Tensor, "k 2"], gt_size: Float[Tensor, "k 2"]) -> Float[Tensor, "k 2"]:
    """Smooth L1 (beta 0.2) of 1 - min(w / w_gt, w_gt / w), and of the same for heights. A gt side of 0 has no loss."""
    ratio = torch.minimum(size / gt_size.clamp(min=1e-6), gt_size / size.clamp(min=1e-6)).clamp(max=1)
    loss = F.smooth_l1_loss(ratio, torch.ones_like(ratio), beta=0.2, reduction="none")
    return loss * (gt_size > 0)
