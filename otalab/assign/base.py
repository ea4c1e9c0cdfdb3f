"""The base class of all assigners: input checks, ignore regions and the loop over a batch, and shared helpers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.prior import inside
from otalab.assign.types import BACKGROUND, AnchorPoints, Assignment, Predictions, Targets
from otalab.errors import InputError


class Assigner:
    """Base class: turns predictions and targets of images into labels. Subclasses override `assign` or `assign_images`.

    A table in docs/assigners.md shows what each assigner does with strange input.

    trains_quality: whether training with this assigner trains the quality branch, so that scores may use it
    own_losses:     whether its assignments have losses of their own, which replace the labels and weights in training
    """

    trains_quality: ClassVar[bool] = True
    own_losses: ClassVar[bool] = False

    @property
    def local(self) -> bool:
        """Whether an image's labels depend only on points inside its gts, and every other point is background."""
        return False

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        """Assign labels for one image with at least one gt. The input is valid and has passed `in_float64`."""
        raise NotImplementedError

    def assign_images(
        self, points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> list[Assignment]:
        """Assign labels for several images. An assigner that can solve all of them at once overrides this.

        The input is valid, but otherwise as the caller passed it: in its own dtype and in its graph.
        """
        return [
            self.assign(*in_float64(points, p, t)) if len(t) else self.background_only(points, p, t)
            for p, t in zip(predictions, targets, strict=True)
        ]

    def background_only(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        """Assign labels for an image without gts, given the input as the caller passed it."""
        return all_background(points)

    def for_classes(self, num_classes: int) -> "Assigner":
        """The assigner for training a detector of `num_classes` classes: itself, unless it has parameters per class."""
        return self

    def __call__(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        """Assign labels for one image; see `assign_batch`."""
        return self.assign_batch(points, [predictions], [targets])[0]

    @torch.no_grad()
    def assign_batch(
        self, points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> list[Assignment]:
        """Assign labels for every image of a batch; the images share `points`.

        Runs without gradients and outside autocast. Geometry and costs are computed in float64, whatever the dtype of
        the input. Afterwards, background points in ignore regions become -2. Raises InputError for lists of different
        lengths, for shapes that do not fit, for labels outside 0..C-1 and for non-finite numbers. Its message names the
        first fault found.
        """
        with torch.autocast(points.xy.device.type, enabled=False):
            validate(points, predictions, targets)
            assignments = self.assign_images(points, predictions, targets) if predictions else []
            return [
                a if t.ignore_boxes is None else a.with_ignored(inside(points, t.ignore_boxes.double()).any(dim=0))
                for a, t in zip(assignments, targets, strict=True)
            ]


def in_float64(
    points: AnchorPoints, predictions: Predictions, targets: Targets
) -> tuple[AnchorPoints, Predictions, Targets]:
    """Detach the input from the graph, with geometry in float64 and labels in int64.

    Logits keep the dtype of the network; an assigner upcasts only those that it reads.
    """
    predictions = predictions.detach()
    anchors = None if predictions.anchors is None else predictions.anchors.double()
    return (
        points.to(dtype=torch.float64),
        replace(predictions, boxes=predictions.boxes.double(), anchors=anchors),
        replace(targets, boxes=targets.boxes.detach().double(), labels=targets.labels.long()),
    )


def validate(points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]) -> None:
    """Raise InputError if shapes disagree, a label is out of range or a number is not finite.

    Finiteness is tested on sums over each tensor of each image, and the result is read from the device once.
    """
    if len(predictions) != len(targets):
        raise InputError(f"{len(predictions)} images have predictions and {len(targets)} have targets")
    n = len(points.xy)
    xy, stride, level = (tuple(x.shape) for x in (points.xy, points.stride, points.level))
    if n == 0 or (xy, stride, level) != ((n, 2), (n,), (n,)):
        raise InputError(f"anchor points need xy (n, 2), stride (n,) and level (n,), not {xy}, {stride} and {level}")
    if points.anchors is not None and points.anchors.shape != (n, 4):
        raise InputError(f"{n} anchor points need anchors ({n}, 4), not {tuple(points.anchors.shape)}")
    numbers = [("anchor points", points.xy), ("strides", points.stride), ("anchors", points.anchors)]
    for p, t in zip(predictions, targets, strict=True):
        logits, boxes, gt_boxes, labels = (tuple(x.shape) for x in (p.logits, p.boxes, t.boxes, t.labels))
        if len(logits) != 2 or logits[0] != n or boxes != (n, 4):
            raise InputError(f"{n} anchor points need logits ({n}, C) and boxes ({n}, 4), not {logits} and {boxes}")
        optional = ("quality", p.quality, (n,)), ("anchors", p.anchors, (n, 4)), ("location", p.location, (n,))
        for name, values, shape in optional:
            if values is not None and values.shape != shape:
                raise InputError(f"{n} anchor points need {name} {shape}, not {tuple(values.shape)}")
        if gt_boxes[1:] != (4,) or labels != gt_boxes[:1]:
            raise InputError(f"gt boxes must be (m, 4) and labels (m,), not {gt_boxes} and {labels}")
        if t.labels.is_floating_point() and len(t.labels):
            raise InputError(f"gt labels must be whole numbers, int64, not {t.labels.dtype}")
        if t.ignore_boxes is not None and t.ignore_boxes.shape[1:] != (4,):
            raise InputError(f"ignore boxes must be (c, 4), not {tuple(t.ignore_boxes.shape)}")
        numbers += [("logits", p.logits), ("predicted boxes", p.boxes), *(each[:2] for each in optional)]
        numbers += [("gt boxes", t.boxes), ("ignore boxes", t.ignore_boxes)]
    if not predictions:
        return
    numbers = [(name, values) for name, values in numbers if values is not None]
    finite = torch.stack([values.sum(dtype=torch.float32) for _, values in numbers]).isfinite().all()
    labels = torch.cat([t.labels for t in targets])
    classes = [p.logits.shape[1] for p in predictions]
    if bool(finite & ((labels >= 0) & (labels < min(classes))).all()):
        return
    for t, number in zip(targets, classes, strict=True):  # a fault, or a sum of finite numbers overflowed
        if not ((t.labels >= 0) & (t.labels < number)).all():
            raise InputError(f"gt labels {t.labels.unique().tolist()} are not all in 0..{number - 1}")
    for name, values in numbers:
        require_finite(name, values)


def require_finite(name: str, values: Tensor) -> None:
    """Raise InputError with the first index at which `values` is NaN or infinite."""
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        first = tuple(bad[0].tolist())
        raise InputError(f"{name}: {len(bad)} non-finite values, the first is {values[first].item()} at {first}")


def all_background(points: AnchorPoints) -> Assignment:
    """An assignment of all points to the background, for an image without gts."""
    return from_labels(torch.full_like(points.level, BACKGROUND), 0)


def from_labels(matched_gt: Int[Tensor, " n"], num_gt: int, k: int | Int[Tensor, " m"] = 0) -> Assignment:
    """Make an assignment from labels alone, without a transport problem: each gt's supply is what it got.

    `k` is the number of points that each gt wanted. Ignored points (-2) count as supply of the background.
    """
    shipped = (matched_gt.clamp(min=BACKGROUND) + 1).bincount(minlength=num_gt + 1)  # the background's first
    return Assignment(matched_gt, supply=shipped.roll(-1), deficit=(k - shipped[1:]).clamp(min=0))


def best(value: Float[Tensor, "m n"], allowed: Bool[Tensor, "m n"]) -> Int[Tensor, " n"]:
    """The allowed gt of highest value at each point; ties go to the first gt. -1 where no gt is allowed."""
    value, owner = value.masked_fill(~allowed, -torch.inf).max(dim=0)
    return owner.masked_fill(~allowed.any(dim=0), -1)


def smallest(allowed: Bool[Tensor, "m n"], boxes: Float[Tensor, "m 4"]) -> Int[Tensor, " n"]:
    """The smallest gt (by area) that each point may learn; ties go to the first gt. -1 where it may learn none."""
    return best(-box_ops.box_area(boxes)[:, None].expand(allowed.shape), allowed)


def top_k(value: Float[Tensor, "m n"], k: int | Int[Tensor, " m"]) -> Bool[Tensor, "m n"]:
    """Mask of the k highest values of each row, or the k_i highest of row i; of equal values, the first are taken."""
    order = value.sort(dim=1, descending=True, stable=True).indices
    rank = torch.arange(value.shape[1], device=value.device).expand_as(order)
    return torch.zeros_like(value, dtype=torch.bool).scatter(
        1, order, rank < (k[:, None] if isinstance(k, Tensor) else k)
    )
