"""Where a gt may be learnt, by geometry alone: regions and sizes, and the rule that the smallest gt wins."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.points import AnchorPoints


def sides(boxes: Float[Tensor, "m 4"]) -> Float[Tensor, "4 m 1"]:
    """Boxes as regions: coordinates first, each for all points."""
    return boxes.T[..., None]


def centre_squares(points: AnchorPoints, boxes: Float[Tensor, "m 4"], radius: float) -> Float[Tensor, "4 m n"]:
    """The square of `radius` strides about each gt's centre, in the stride of each point."""
    x, y = box_ops.centres(boxes).T[..., None]
    reach = radius * points.stride
    return torch.stack((x - reach, y - reach, x + reach, y + reach))


def clipped(region: Float[Tensor, "4 m n"], boxes: Float[Tensor, "m 4"]) -> Float[Tensor, "4 m n"]:
    """The part of each gt's region that lies in the gt."""
    box = sides(boxes)
    return torch.cat((torch.maximum(region[:2], box[:2]), torch.minimum(region[2:], box[2:])))


def inside(points: AnchorPoints, region: Float[Tensor, "4 m #n"], margin: float = 0.0) -> Bool[Tensor, "m n"]:
    """Which points lie more than `margin` px inside each gt's region."""
    (x, y), (x1, y1, x2, y2) = points.xy.T.contiguous(), region
    return (x - x1 > margin) & (y - y1 > margin) & (x2 - x > margin) & (y2 - y > margin)


def farthest_side(points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Float[Tensor, "m n"]:
    """From each point to the farthest of a gt's four sides, px, as if the point were inside."""
    (x, y), (x1, y1, x2, y2) = points.xy.T.contiguous(), sides(boxes)
    return torch.maximum(torch.maximum(x - x1, x2 - x), torch.maximum(y - y1, y2 - y))


def smallest(allowed: Bool[Tensor, "m n"], boxes: Float[Tensor, "m 4"]) -> Int[Tensor, " n"]:
    """The gt of least area that each point may learn, the first of equals; -1 where it may learn none."""
    area, owner = box_ops.box_area(boxes)[:, None].where(allowed, torch.inf).min(dim=0)
    return owner.masked_fill(area.isinf(), -1)
