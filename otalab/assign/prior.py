"""Centre priors: which anchor points may learn which gt (paper, Sec. 3.3 "Center Prior").

Each prior is a dataclass; called with points and gt boxes, it returns a mask (m, n) of admissible pairs.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.types import AnchorPoints


@dataclass(frozen=True)
class RadiusPrior:
    """Points inside the gt and within `radius` strides of its centre: the authors' code.

    A point is admissible if it lies more than `margin` px inside the gt, and strictly inside the square of half side
    `radius` * stride about the gt's centre, clipped to the gt. At most (2 * radius)^2 points a level.
    """

    radius: float = 2.5
    margin: float = 0.01

    def __call__(self, points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Bool[Tensor, "m n"]:
        reach = self.radius * points.stride[:, None]  # (n, 1)
        mask = torch.ones(len(boxes), len(points), dtype=torch.bool, device=boxes.device)
        for axis in (0, 1):  # one coordinate at a time keeps the largest temporary at (m, n)
            at = points.xy[:, axis]  # (n,)
            low, high = boxes[:, axis, None], boxes[:, axis + 2, None]  # (m, 1)
            centre = (low + high) / 2
            square = torch.maximum(centre - reach.T, low), torch.minimum(centre + reach.T, high)  # (m, n)
            mask &= (at - square[0] > 0) & (square[1] - at > 0)
            mask &= (at - low > self.margin) & (high - at > self.margin)
        return mask


@dataclass(frozen=True)
class ClosestPrior:
    """The r^2 points of each level that are closest to the gt's centre, inside the gt or not: the paper.

    Of points equally close, the first are taken; a level of fewer points gives all of them.
    """

    r: int = 5

    def __call__(self, points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Bool[Tensor, "m n"]:
        offset = box_ops.centres(boxes)[:, None] - points.xy.to(boxes)  # (m, n, 2)
        distance = offset.square().sum(dim=-1)  # squared; cdist would go through a matrix product and lose digits
        sizes = points.level.bincount().tolist()  # points lie level by level
        masks = []
        for level in distance.split(sizes, dim=1):
            near = level.sort(dim=1, stable=True).indices[:, : self.r**2]
            masks.append(torch.zeros_like(level, dtype=torch.bool).scatter_(1, near, True))
        return torch.cat(masks, dim=1)


def with_nearest_point(
    mask: Bool[Tensor, "m n"], points: AnchorPoints, boxes: Float[Tensor, "m 4"]
) -> Bool[Tensor, "m n"]:
    """Give each gt without an admissible point the one closest to its centre, if less than a stride away.

    Tiny gts fall between the points; without this they would never be learnt. A gt of no area or outside the grid of
    points stays without.
    """
    empty = ~mask.any(dim=1) & (box_ops.box_area(boxes) > 0)  # (m,)
    if not empty.any():
        return mask
    distance = (box_ops.centres(boxes[empty])[:, None] - points.xy.to(boxes)).abs().amax(dim=-1)  # (e, n)
    distance, nearest = distance.min(dim=1)
    near = distance < points.stride[nearest]
    mask = mask.clone()
    mask[empty.nonzero().squeeze(1)[near], nearest[near]] = True
    return mask
