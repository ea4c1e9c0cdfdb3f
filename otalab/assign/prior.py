"""Centre priors: which points may learn a gt, by geometry alone (paper, Sec. 3.3 "Center Prior"); and their helpers.

A prior is a dataclass. Calling it with points and gt boxes returns the (m, n) mask of admissible pairs. Its method
`candidates` returns the same pairs as a short list per gt. If the points have a `grid`, `RadiusPrior` makes that list
without testing all points. The boxes may come from many images that share the points.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.types import AnchorPoints
from otalab.checks import require


@dataclass(frozen=True)
class Candidates:
    """The points that each gt may learn, as padded lists."""

    point: Int[Tensor, "m s"]
    valid: Bool[Tensor, "m s"]  # False for padding; the valid points of a gt are distinct

    def mask(self, num_points: int) -> Bool[Tensor, "m n"]:
        """Convert the lists to a mask of pairs."""
        pairs = torch.zeros(len(self.point), num_points, dtype=torch.uint8, device=self.point.device)
        return pairs.scatter_reduce_(1, self.point, self.valid.to(pairs), "amax").bool()

    def or_nearest(self, points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> "Candidates":
        """Give each gt without a candidate the point closest to its centre, if less than a stride away on each axis.

        Without this, tiny gts that lie between the points would never be learnt. A gt without area or outside the
        grid of points still gets no candidate. Of equally close points, the first is taken.
        """
        empty = ~self.valid.any(dim=1)
        if empty.device.type == "cpu" and not bool(empty.any()):  # on a GPU, this test costs more than it saves
            return self
        point = nearest_points(points, boxes)  # (m,)
        offset = (box_ops.centres(boxes) - points.xy[point].to(boxes)).abs().amax(dim=1)
        granted = empty & (box_ops.box_area(boxes) > 0) & (offset < points.stride[point])
        return Candidates(
            torch.cat((self.point, point[:, None]), dim=1), torch.cat((self.valid, granted[:, None]), dim=1)
        )


@dataclass(frozen=True)
class RadiusPrior:
    """Points more than `margin` px inside the gt, less than `radius` strides from its centre: the authors' prior.

    The distance is taken on each axis, see `inside`. So a level has at most ceil(2 * radius)^2 such points.
    """

    radius: float = 2.5
    margin: float = 0.01

    def __post_init__(self) -> None:
        require("be positive and finite", radius=self.radius)
        require("be finite and not negative", margin=self.margin)

    def __call__(self, points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Bool[Tensor, "m n"]:
        return inside(points, boxes, self.radius, self.margin)

    def candidates(self, points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Candidates:
        """The admissible points of each gt, searched in a window of cells around its centre on each level."""
        if points.grid is None:
            mask = self(points, boxes)
            return Candidates(torch.arange(len(points), device=mask.device).expand(mask.shape), mask)
        point, at, on_map = window(points, boxes, -self.radius, math.ceil(2 * self.radius) + 1)
        reach, sides = self.radius * points.grid_tensors[0].to(boxes), boxes.T[..., None, None]
        x, y = (
            on_map[axis] & within(at[axis], reach, sides[axis], sides[axis + 2], self.margin) for axis in (0, 1)
        )  # (m, levels, size) each
        return Candidates(point.flatten(1), (y[..., :, None] & x[..., None, :]).flatten(1))


@dataclass(frozen=True)
class ClosestPrior:
    """The r^2 points of each level that are closest to the gt's centre, inside the gt or not, as in the paper.

    Of equally close points, the first are taken. A level with fewer points gives all of them.
    """

    r: int = 5

    def __post_init__(self) -> None:
        require("be a whole number of at least 1", r=self.r)

    def __call__(self, points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Bool[Tensor, "m n"]:
        return self.candidates(points, boxes).mask(len(points))

    def candidates(self, points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Candidates:
        """The closest points of each level; the lists have no padding."""
        point = closest_points(points, boxes, self.r**2)
        return Candidates(point, torch.ones_like(point, dtype=torch.bool))


def inside(
    points: AnchorPoints, boxes: Float[Tensor, "m 4"], radius: float = torch.inf, margin: float = 0.0
) -> Bool[Tensor, "m n"]:
    """Mask of the points more than `margin` px inside each box and less than `radius` strides from its centre.

    The distance from the centre is taken on each axis. A margin of -inf drops the first condition. What remains is a
    square around the centre, which may extend beyond the box.
    """
    reach = None if radius == torch.inf else radius * points.stride.to(boxes)
    at, sides = points.xy.T.contiguous(), boxes.T[..., None]
    x, y = (within(at[axis], reach, sides[axis], sides[axis + 2], margin) for axis in (0, 1))
    return x & y


def within(at: Tensor, reach: Tensor | None, low: Tensor, high: Tensor, margin: float) -> Bool[Tensor, "..."]:
    """`inside` along one axis: between two sides and, unless `reach` is None, less than `reach` px from the middle."""
    between = (at - low > margin) & (high - at > margin)
    return between if reach is None else between & ((at - (low + high) / 2).abs() < reach)


def window(
    points: AnchorPoints, boxes: Float[Tensor, "m 4"], begin: float, size: int
) -> tuple[Int[Tensor, "m levels size size"], list[Tensor], list[Tensor]]:
    """For each gt, a window of `size` x `size` cells on each level; it begins `begin` cells from the gt's centre.

    The beginning is rounded down to a whole cell. Returns the index of the point of each cell, indexed (y, x). Also
    returns two lists with entries for x and for y, (m, levels, size) each: the coordinate of each column or row of
    cells, and whether it is on the map. Cells off the map are moved onto its border.
    """
    stride, width, height, start = points.grid_tensors  # (levels, 1) each
    cells, at, on_map = [], [], []
    for axis, extent, step in ((0, width, 1), (1, height, width)):
        centre = (boxes[:, axis, None, None] + boxes[:, axis + 2, None, None]) / 2
        first = (centre / stride + (begin - points.grid.offset)).floor()
        cell = first.clamp(min=-size).minimum(extent).long() + torch.arange(size, device=boxes.device)
        on_map.append((cell >= 0) & (cell < extent))
        cells.append(cell.clamp(min=0).minimum(extent - 1) * step)
        at.append(points.xy[start + cells[axis], axis])
    return start[..., None] + cells[1][..., :, None] + cells[0][..., None, :], at, on_map


def closest_points(points: AnchorPoints, boxes: Float[Tensor, "m 4"], k: int) -> Int[Tensor, "m s"]:
    """Indices of the k points of each level that are closest to each gt's centre, level by level, the closest first.

    Of equally close points, the first are taken. A level with fewer points gives all of them.
    """
    near, start = [], 0
    # points per level; a grid has these numbers on the host, without waiting for the device
    sizes = [h * w for h, w in points.grid.maps] if points.grid else points.level.bincount().tolist()
    for level in squared_distance(points, boxes).split(sizes, dim=1):
        near.append(level.sort(dim=1, stable=True).indices[:, :k] + start)
        start += level.shape[1]
    return torch.cat(near, dim=1)


def nearest_points(points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Int[Tensor, " m"]:
    """Index of the point closest to each gt's centre; of equally close points, the first."""
    if points.grid is None:
        return squared_distance(points, boxes).argmin(dim=1)
    point, at, _ = window(points, boxes, 0.0, 2)  # on each axis, the two cells around the centre
    x, y = ((x - centre[:, None, None]).square() for x, centre in zip(at, box_ops.centres(boxes).T, strict=True))
    distance = (y[..., :, None] + x[..., None, :]).flatten(1)
    return point.flatten(1).gather(1, distance.argmin(dim=1, keepdim=True)).squeeze(1)


def squared_distance(points: AnchorPoints, boxes: Float[Tensor, "m 4"]) -> Float[Tensor, "m n"]:
    """Squared distance of each gt's centre to each point, px^2; cdist's matrix product would lose digits."""
    return (box_ops.centres(boxes)[:, None] - points.xy.to(boxes)).square().sum(dim=-1)
