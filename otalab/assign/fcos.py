"""FCOS: a fixed rule decides where a gt is learnt, and the smallest gt wins. Source: Tian et al., ICCV 2019."""

from dataclasses import dataclass

import torch

from otalab.assign.base import Assigner, from_labels, smallest
from otalab.assign.prior import inside
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require


@dataclass(frozen=True)
class FCOS(Assigner):
    """A point learns the smallest gt (by area) whose centre region contains it and whose size fits its level.

    center_radius: half side of the centre region in strides; the region is clipped to the gt. 0 takes the whole gt
    size_range:    on a level of stride s, a point may learn a gt if the distance to the gt's farthest side is between
                   the two factors times s (64..128 px at stride 16). The finest level has no lower limit, and the
                   coarsest no upper limit

    Of gts of equal area, the first is taken. Predictions are not used.
    """

    center_radius: float = 1.5
    size_range: tuple[float, float] = (4.0, 8.0)

    def __post_init__(self) -> None:
        require("be finite and not negative", center_radius=self.center_radius)
        require("be two positive factors, the lower first", size_range=self.size_range)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        boxes = targets.boxes
        allowed = inside(points, boxes, self.center_radius or torch.inf)
        (x, y), (x1, y1, x2, y2) = points.xy.T.contiguous(), boxes.T[..., None]
        farthest = torch.maximum(torch.maximum(x - x1, x2 - x), torch.maximum(y - y1, y2 - y))  # (m, n) side, px
        lower = torch.where(points.level == 0, -1.0, self.size_range[0] * points.stride)
        upper = torch.where(points.level == points.level[-1], torch.inf, self.size_range[1] * points.stride)
        allowed &= (farthest >= lower) & (farthest <= upper)
        return from_labels(smallest(allowed, boxes), len(boxes))
