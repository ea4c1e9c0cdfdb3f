"""The inputs and the output of every assigner: anchor points, predictions, targets, and the assignment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from math import sqrt
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab.errors import InputError
from otalab.transport import Certificate, TransportProblem, certify

BACKGROUND = -1
IGNORED = -2


@dataclass(frozen=True)
class Grid:
    """The layout of anchor points: per level a map of (height, width) cells, with points at (i + offset) * stride."""

    maps: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    offset: float


@dataclass(frozen=True)
class AnchorPoints:
    """The locations that can learn an object: all cells of all FPN levels, finest level first, row-major.

    xy:     (n, 2) float, position in image px
    stride: (n,) float, px step of the point's level
    level:  (n,) int64, index of the level; 0 is the finest
    grid:   layout of the points, or None if unknown. With it, `RadiusPrior` need not test all points
    anchors: (n, 4) float or None, xyxy px: the anchor boxes, for a detector that has them. Each anchor box is then a
             point of its own, the anchors of one location are adjacent, and `grid` is None
    """

    xy: Float[Tensor, "n 2"]
    stride: Float[Tensor, " n"]
    level: Int[Tensor, " n"]
    grid: Grid | None = None
    anchors: Float[Tensor, "n 4"] | None = None

    @classmethod
    def for_image(
        cls,
        size: tuple[int, int],
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        offset: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "AnchorPoints":
        """Make the points of an image of `size` (height, width) px.

        A level of stride s has ceil(H/s) x ceil(W/s) points, at (i + offset) * s. Raises InputError if there are no
        strides, or if a size or stride is not a positive whole number.
        """
        if len(size) != 2 or any(isinstance(x, float) or x <= 0 for x in (*size, *strides)):
            found = f"{tuple(size)} and {list(strides)}"
            raise InputError(f"image size (height, width) and strides must be positive whole numbers, not {found}")
        maps = [(-(-size[0] // s), -(-size[1] // s)) for s in strides]
        return cls.for_feature_maps(maps, strides, offset, device, dtype)

    @classmethod
    def for_feature_maps(
        cls,
        maps: Sequence[tuple[int, int]],
        strides: Sequence[int],
        offset: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "AnchorPoints":
        """Make the points of feature maps of the given (height, width) in cells, one map per stride.

        Raises InputError if the numbers of maps and strides differ or are 0, or if a size or stride is not a positive
        whole number.
        """
        if len(maps) != len(strides) or len(maps) == 0:
            raise InputError(
                f"{len(maps)} feature maps but {len(strides)} strides; there must be as many, and one at least"
            )
        if any(isinstance(x, float) or x <= 0 for x in (*strides, *(side for size in maps for side in size))):
            raise InputError(f"feature maps {list(maps)} and strides {list(strides)} must be positive whole numbers")
        make = {"device": device, "dtype": dtype}
        xy, stride, level = [], [], []
        for index, ((h, w), s) in enumerate(zip(maps, strides, strict=True)):
            y, x = torch.meshgrid(torch.arange(h, **make), torch.arange(w, **make), indexing="ij")
            xy.append((torch.stack((x, y), dim=-1).reshape(-1, 2) + offset) * s)
            stride.append(torch.full((h * w,), s, **make))
            level.append(torch.full((h * w,), index, device=device, dtype=torch.int64))
        grid = Grid(tuple((h, w) for h, w in maps), tuple(strides), offset)
        return cls(torch.cat(xy), torch.cat(stride), torch.cat(level), grid)

    def __len__(self) -> int:
        return len(self.stride)

    @cached_property
    def grid_tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Stride (float64), width, height and index of the first point of each level of the grid, (levels, 1) each."""
        height, width = zip(*self.grid.maps, strict=True)
        start = accumulate((h * w for h, w in self.grid.maps[:-1]), initial=0)
        table = torch.tensor([width, height, [*start], self.grid.strides], device="cpu")[..., None]
        if self.xy.is_cuda:
            table = table.pin_memory()  # only from pinned memory does the copy not wait for the device
        width, height, start, stride = table.to(self.xy.device, non_blocking=True)
        return stride.double(), width, height, start

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "AnchorPoints":
        """The same points on another device or in another float dtype."""
        xy, stride = (x.to(device=device, dtype=dtype) for x in (self.xy, self.stride))
        anchors = None if self.anchors is None else self.anchors.to(device=device, dtype=dtype)
        return AnchorPoints(xy, stride, self.level.to(device=device), self.grid, anchors)

    def at(self, own: Bool[Tensor, " n"]) -> "AnchorPoints":
        """Select the points in the mask; they are no longer a grid."""
        anchors = None if self.anchors is None else self.anchors[own]
        return AnchorPoints(self.xy[own], self.stride[own], self.level[own], None, anchors)

    def boxes(self, scale: float | int = 8, ratio: float | int = 1) -> Float[Tensor, "n 4"]:
        """A box per point, for assigners that compare anchor boxes.

        These are the `anchors` if there are any. Otherwise they are centred on the points and have area
        (scale * stride)^2 and height / width = ratio.
        """
        if self.anchors is not None:
            return self.anchors
        half = torch.stack([self.stride * (side / 2) for side in (scale / sqrt(ratio), scale * sqrt(ratio))], dim=-1)
        return torch.cat((self.xy - half, self.xy + half), dim=-1)


@dataclass(frozen=True)
class Predictions:
    """The detector's outputs at each anchor point of one image.

    logits:  (n, C) float, raw class scores, before the sigmoid
    boxes:   (n, 4) float, xyxy in image px
    quality: (n,) float or None, raw IoU / centre-ness / objectness branch, before the sigmoid

    Only from a detector that predicts its anchor boxes (`otalab.detect.guided`, `otalab.detect.meta`), otherwise None:

    anchors:  (n, 4) float, the anchor box at each point, xyxy in image px; `max-iou` compares these
    location: (n,) float, raw score for an anchor at this location, before the sigmoid
    """

    logits: Float[Tensor, "n C"]
    boxes: Float[Tensor, "n 4"]
    quality: Float[Tensor, " n"] | None = None
    anchors: Float[Tensor, "n 4"] | None = None
    location: Float[Tensor, " n"] | None = None

    def detach(self) -> "Predictions":
        """Detach all tensors from the graph; assignment is never differentiated through."""
        return Predictions(*(None if x is None else x.detach() for x in vars(self).values()))

    def at(self, own: Bool[Tensor, " n"]) -> "Predictions":
        """Select the predictions at the points in the mask."""
        return Predictions(*(None if x is None else x[own] for x in vars(self).values()))


@dataclass(frozen=True)
class Targets:
    """The ground truth of one image.

    boxes:        (m, 4) float, xyxy in image px
    labels:       (m,) int64, class index from 0
    ignore_boxes: (c, 4) float or None: regions (COCO's iscrowd) in which background points are ignored instead
    """

    boxes: Float[Tensor, "m 4"]
    labels: Int[Tensor, " m"]
    ignore_boxes: Float[Tensor, "c 4"] | None = None

    def __len__(self) -> int:
        return len(self.labels)


class LossTerm(NamedTuple):
    """A summed loss of one image, and the count that normalises it.

    The loss of a batch is the sum of the totals divided by the sum of the counts, or by 1 if that sum is less.

    total: () float, with a gradient
    count: () float, without a gradient
    """

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]


@dataclass(frozen=True)
class Assignment:
    """Which gt each anchor point learns, with which target score, and with which weight in the losses.

    matched_gt: (n,) int64, gt index; -1 background; -2 ignored
    supply:     (m + 1,) int64, labels of each gt, then of the background; sums to n. These are the labels shipped, but
                those offered for `ota-paper` and `ota-official`. The plan of `uot` need not match them
    deficit:    (m,) int64, by how many points a gt falls short of its k
    price:      (m,) float64, what a gt would pay for one more point, beyond the background's cost: a dual solution
    cost, plan: (m + 1, n) float, the transport problem behind the labels and its solution; +inf cost forbids a route.
                An assigner that finds its labels without these matrices makes them on first access.

    An assigner that solves no transport problem leaves price, cost and plan None. For an image without gts, all but
    `ota` do so. `uot` has no price. Without a cost or a price there is no certificate.

    Soft labels, None if the assigner has none:

    score:        (n,) float64, target probability of a positive's class, in place of 1
    label_weight: (n,) float64, factor of each point's classification loss, in place of 1
    box_weight:   (n,) float64, factor of each positive's box and quality losses, in place of 1
    make_losses:  makes the assigner's own losses, which replace the detector's, from predictions in the graph and the
                  (n,) mask of the points that are not ignored
    """

    matched_gt: Int[Tensor, " n"]
    supply: Int[Tensor, " m1"]
    deficit: Int[Tensor, " m"]
    make_cost: Callable[[], Tensor] | None = field(default=None, repr=False)
    make_plan: Callable[[], Tensor] | None = field(default=None, repr=False)
    price: Float[Tensor, " m"] | None = field(default=None, repr=False)
    score: Float[Tensor, " n"] | None = field(default=None, repr=False)
    label_weight: Float[Tensor, " n"] | None = field(default=None, repr=False)
    box_weight: Float[Tensor, " n"] | None = field(default=None, repr=False)
    make_losses: Callable[[Predictions, Tensor], dict[str, LossTerm]] | None = field(default=None, repr=False)

    @cached_property
    def cost(self) -> Float[Tensor, "m1 n"] | None:
        return self.make_cost() if self.make_cost else None

    @cached_property
    def plan(self) -> Float[Tensor, "m1 n"] | None:
        return self.make_plan() if self.make_plan else None

    @cached_property
    def certificate(self) -> Certificate | None:
        """Optimality proof by weak duality on the full cost matrix: the plan's cost, and a lower bound for all plans.

        The plan is checked against `supply`, the labels that were shipped; `deficit` counts those that were not. Any
        prices prove a valid bound; poor prices prove a loose one.
        """
        if self.make_cost is None or self.price is None:
            return None
        problem = TransportProblem(self.cost, self.supply, torch.ones_like(self.cost[0]))
        return certify(problem, self.plan, torch.cat((self.price, self.price.new_zeros(1))))

    @property
    def positive(self) -> Bool[Tensor, " n"]:
        """Mask of the points that learn an object."""
        return self.matched_gt >= 0

    @property
    def kept(self) -> Bool[Tensor, " n"]:
        """Mask of the points that are not ignored, and so have a loss."""
        return self.matched_gt != IGNORED

    def losses(self, predictions: Predictions) -> dict[str, LossTerm]:
        """The assignment's own losses of these predictions, which must be in the graph; see `make_losses`."""
        return self.make_losses(predictions, self.kept)

    @property
    def counts(self) -> Int[Tensor, " m"]:
        """Number of positives of each gt."""
        owners = self.matched_gt.clamp(min=BACKGROUND) + 1
        return torch.bincount(owners, minlength=len(self.deficit) + 1)[1:]

    def balanced(self, power: float = 1.0) -> "Assignment":
        """The same labels, but a positive weighs less in the losses the more positives its gt has.

        A positive's weights are multiplied by (positives of its gt) ** -power, divided by the mean of this factor over
        the image's positives. At power 1, all gts of an image that have positives weigh the same, however many they
        have. At power 0, all positives weigh the same, so the assignment is returned unchanged. So is an assignment
        with losses of its own.
        """
        if power == 0 or self.make_losses is not None:
            return self
        counts = self.counts.double()
        share = counts.clamp(min=1) ** -power
        share = share * counts.sum() / (share * counts).sum().clamp(min=torch.finfo(torch.float64).tiny)
        weight = torch.cat((share, share.new_ones(1)))[self.matched_gt.clamp(min=BACKGROUND)]  # -1 is the last
        label, box = (weight if w is None else w * weight for w in (self.label_weight, self.box_weight))
        return replace(self, label_weight=label, box_weight=box)

    def with_ignored(self, inside: Bool[Tensor, " n"]) -> "Assignment":
        """The same assignment, with the background points in the mask `inside` turned into ignored ones."""
        ignored = inside & (self.matched_gt == BACKGROUND)
        return replace(self, matched_gt=self.matched_gt.masked_fill(ignored, IGNORED))
