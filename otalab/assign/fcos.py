"""FCOS: a fixed rule for where an object is learnt, and the smallest object wins. Source: Tian et al., ICCV 2019."""

from dataclasses import dataclass

import torch

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, from_labels
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets


@dataclass(frozen=True)
class FCOS(Assigner):
    """A point learns the smallest gt (by area) whose centre region it lies in and whose size fits its level.

    centre_radius: half side of the centre region in strides, clipped to the gt; 0 takes the whole gt
    size_range:    a level of stride s takes gts whose farthest side is between the two factors times s from the point
                   (64..128 px at stride 16); the finest level has no lower limit, the coarsest no upper
    Equal areas go to the gt that is listed first. Predictions are not looked at.
    """

    centre_radius: float = 1.5
    size_range: tuple[float, float] = (4.0, 8.0)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        boxes = targets.boxes.double()
        xy, stride = points.xy.double(), points.stride.double()
        sides = box_ops.ltrb(xy, boxes[:, None])  # (m, n, 4)
        if self.centre_radius > 0:
            centre, reach = box_ops.centres(boxes)[:, None], self.centre_radius * stride[:, None]
            low, high = (
                torch.maximum(centre - reach, boxes[:, None, :2]),
                torch.minimum(centre + reach, boxes[:, None, 2:]),
            )
            inside = box_ops.ltrb(xy, torch.cat((low, high), dim=-1)).amin(dim=-1) > 0  # (m, n)
        else:
            inside = sides.amin(dim=-1) > 0
        farthest = sides.amax(dim=-1)
        lower = torch.where(points.level == 0, -1.0, self.size_range[0] * stride)
        upper = torch.where(points.level == points.level[-1], torch.inf, self.size_range[1] * stride)
        fits = (farthest >= lower) & (farthest <= upper)
        area = box_ops.box_area(boxes)[:, None].where(inside & fits, torch.inf)  # (m, n)
        smallest, owner = area.min(dim=0)
        return from_labels(owner.masked_fill(smallest.isinf(), -1), len(boxes))
