"""Box formats and overlaps that both the assigners and the losses need.

Boxes are xyxy in image pixels. All-pairs IoU and GIoU of two sets come from `torchvision.ops`. `iou` broadcasts
instead, so that it can measure a list of (gt, point) pairs without the (m, n) matrix.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from otalab.errors import InputError

KINDS = ("iou", "giou", "ciou")
IOU_FLOOR = 1.1920928955078125e-07  # float32 machine epsilon for every dtype, as in the authors' clamp


def box_area(boxes: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
    """Area of each box in px^2; an inverted box has area 0."""
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def iou(a: Float[Tensor, "*a 4"], b: Float[Tensor, "*b 4"], kind: str = "iou") -> Float[Tensor, "*ab"]:
    """IoU of boxes `a` and `b`, which broadcast against each other.

    `kind="iou"` is in [0, 1], and 0 for two empty boxes. `"giou"` (Rezatofighi et al., CVPR 2019) is in [-1, 1].
    `"ciou"` (Zheng et al., AAAI 2020) subtracts one penalty for the distance of the centres and one for the difference
    of the aspect ratios; it is in [-1.5, 1]. Differentiable in both arguments. Raises InputError for another kind.
    """
    if kind not in KINDS:
        raise InputError(f"no kind of IoU {kind!r}; there is {', '.join(KINDS)}")
    # coordinate by coordinate: twice as fast, because the innermost loop then runs over boxes, not over two numbers
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (x.movedim(-1, 0).contiguous() for x in (a, b))
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    overlap = width * (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    union = box_area(a) + box_area(b) - overlap
    value = overlap / union.clamp(min=IOU_FLOOR)
    if kind == "iou":
        return value
    width = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)).clamp(min=0)  # of the smallest box around both
    height = (torch.maximum(ay2, by2) - torch.minimum(ay1, by1)).clamp(min=0)
    if kind == "giou":
        hull = width * height
        return value - (hull - union) / hull.clamp(min=IOU_FLOOR)
    apart = ((ax1 + ax2 - bx1 - bx2).square() + (ay1 + ay2 - by1 - by2).square()) / 4  # squared, of the centres
    distance = (apart / (width.square() + height.square()).clamp(min=IOU_FLOOR)).clamp(max=1)
    angle = [torch.atan2(w.clamp(min=0), h.clamp(min=0)) for w, h in ((ax2 - ax1, ay2 - ay1), (bx2 - bx1, by2 - by1))]
    aspect = 4 / math.pi**2 * (angle[0] - angle[1]).square()
    weight = (aspect / (1 - value + aspect).clamp(min=IOU_FLOOR)).detach()  # no gradient, as in the paper
    return value - distance - weight * aspect


def intersection(a: Float[Tensor, "k 4"], b: Float[Tensor, "c 4"]) -> Float[Tensor, "k c"]:
    """Area in px^2 that each of the boxes `a` shares with each of the boxes `b`."""
    near, far = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    return box_area(torch.cat((near, far), dim=2))


def iou_loss(iou: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """-ln IoU, at most 15.95: the IoU is clamped to at least float32 epsilon. Source: Yu et al., UnitBox, 2016."""
    return -iou.clamp(min=IOU_FLOOR).log()


def ltrb(xy: Float[Tensor, "*shape 2"], boxes: Float[Tensor, "*shape2 4"]) -> Float[Tensor, "*shape3 4"]:
    """Distances in px from points to the left, top, right and bottom side of boxes; negative beyond that side."""
    return torch.cat((xy - boxes[..., :2], boxes[..., 2:] - xy), dim=-1)


def around(xy: Float[Tensor, "*#shape 2"], sides: Float[Tensor, "*#shape2 4"]) -> Float[Tensor, "*shape3 4"]:
    """xyxy boxes from points and their distances (left, top, right, bottom) in px: the inverse of `ltrb`."""
    return torch.cat((xy - sides[..., :2], xy + sides[..., 2:]), dim=-1)


def centres(boxes: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape 2"]:
    """Centre (x, y) of each box in px."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2
