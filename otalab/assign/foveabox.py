"""FoveaBox: a gt is learnt in its middle, on the levels that suit its size. Source: Kong et al., TIP 2020, Sec. III."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, from_labels, smallest
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require


@dataclass(frozen=True)
class FoveaBox(Assigner):
    """A point learns the smallest gt (by area) whose fovea contains it and whose size, sqrt(area), fits its level.

    sigma:       side of the fovea divided by that of the gt; both have the same centre
    size_range:  a level of stride s takes sizes between the two factors times s. The ranges of neighbouring levels
                 overlap
    ends:        factors that replace the lower one on the finest level and the upper one on the coarsest

    At strides 8..128, the factors give mmdetection's ranges: 1..64, 32..128, 64..256, 128..512 and 256..2048 px. As in
    mmdetection, a fovea beyond a level's points is moved onto those at the border, so a gt outside the image is learnt
    too. Of gts of equal area, the first is taken. Predictions are not used.
    """

    sigma: float = 0.4
    size_range: tuple[float, float] = (2.0, 8.0)
    ends: tuple[float, float] = (0.125, 16.0)

    def __post_init__(self) -> None:
        require("be above 0 and at most 1", sigma=self.sigma)
        require("be two positive factors, the lower first", size_range=self.size_range, ends=self.ends)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        boxes, stride = targets.boxes, points.stride
        size = box_ops.box_area(boxes).sqrt()[:, None]  # (m, 1)
        low = torch.where(points.level == 0, self.ends[0], self.size_range[0]) * stride
        high = torch.where(points.level == points.level[-1], self.ends[1], self.size_range[1]) * stride
        allowed = (size >= low) & (size <= high) & self.in_fovea(points, boxes)
        return from_labels(smallest(allowed, boxes), len(boxes))

    def in_fovea(self, points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Tensor:
        """(m, n) bool mask of the points in each gt's fovea, including its border, after it is moved onto the level."""
        level = points.level[:, None].expand(-1, 2)  # valid rows: there are no more levels than points
        first, last = (  # the least and the greatest x and y on each point's level, (n, 2)
            torch.zeros_like(points.xy).scatter_reduce(0, level, points.xy, how, include_self=False).gather(0, level)
            for how in ("amin", "amax")
        )
        half = (boxes[:, 2:] - boxes[:, :2])[:, None] / 2
        corner = boxes[:, None, :2]
        low = (corner + (1 - self.sigma) * half).maximum(first).minimum(last)  # (m, n, 2)
        high = (corner + (1 + self.sigma) * half).maximum(first).minimum(last)
        return ((points.xy >= low) & (points.xy <= high)).all(dim=-1)
