"""What every assigner shares: checked input, ignore regions, a loop over the batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.points import AnchorPoints
from otalab.assign.types import Assignment, Predictions, Targets
from otalab.errors import InputError


class Assigner:
    """Turns predictions and ground truth of images into labels. Subclasses write `assign`, or `assign_images`.

    Every assigner gives defined answers to strange input: see the table in docs/assigners.md.

    trains_quality: whether the losses behind the labels train the quality branch, so that scores may use it
    """

    trains_quality: ClassVar[bool] = True

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        """Labels for one image of valid input with at least one gt; ignore regions are not its business.

        Points and boxes come in float64, labels in int64, logits in the dtype of the network and cut from its graph.
        """
        raise NotImplementedError

    def assign_images(
        self, points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> list[Assignment]:
        """Labels for images of valid input as it came, cut from the graph; an assigner that can do all at once does."""
        return [
            self.assign(*in_float64(points, p, t)) if len(t) else self.background_only(points, p, t)
            for p, t in zip(predictions, targets, strict=True)
        ]

    def background_only(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        """Labels for an image without gts, of input as it came."""
        return all_background(points)

    def for_classes(self, num_classes: int) -> "Assigner":
        """The assigner that a detector of so many classes trains with: itself, unless it learns something a class."""
        return self

    def __call__(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        """Labels for one image; see `assign_batch`."""
        return self.assign_batch(points, [predictions], [targets])[0]

    @torch.no_grad()
    def assign_batch(
        self, points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]
    ) -> list[Assignment]:
        """Labels for every image of a batch; the images share `points`.

        Runs without gradients, outside autocast and in float64, whatever the dtype of the input. Raises InputError
        for lists of different length, shapes that do not fit, labels outside 0..C-1 and non-finite numbers, naming
        the first.
        """
        if len(predictions) != len(targets):
            raise InputError(f"{len(predictions)} images have predictions and {len(targets)} have targets")
        with torch.autocast(points.xy.device.type, enabled=False):
            validate(points, predictions, targets)
            assignments = self.assign_images(points, [p.detach() for p in predictions], targets)
            return [
                a.with_ignored(inside_any(points.xy.double(), t.ignore_boxes.double()))
                if t.ignore_boxes is not None and len(t.ignore_boxes)
                else a
                for a, t in zip(assignments, targets, strict=True)
            ]


def in_float64(
    points: AnchorPoints, predictions: Predictions, targets: Targets
) -> tuple[AnchorPoints, Predictions, Targets]:
    """The same input with its geometry in float64. Logits stay as they are: an assigner upcasts those it reads."""
    predictions = predictions.detach()
    ignore = targets.ignore_boxes
    return (
        points.to(dtype=torch.float64),
        replace(predictions, boxes=predictions.boxes.double()),
        Targets(targets.boxes.double(), targets.labels.long(), None if ignore is None else ignore.double()),
    )


def validate(points: AnchorPoints, predictions: Sequence[Predictions], targets: Sequence[Targets]) -> None:
    """Raise InputError when shapes disagree, a label is out of range or a number is not finite.

    The numbers of all images are judged by their sums, and the verdict is read from the device once.
    """
    for p, t in zip(predictions, targets, strict=True):
        require_shapes(len(points), p, t)
    sums = [x.sum(dtype=torch.float32) for p in predictions for x in (p.logits, p.boxes, p.quality) if x is not None]
    sums += [t.ignore_boxes.sum(dtype=torch.float32) for t in targets if t.ignore_boxes is not None]
    if sums:
        sums.append(torch.cat([t.boxes for t in targets]).sum(dtype=torch.float32))
        labels = torch.cat([t.labels for t in targets])
        classes = min(p.logits.shape[1] for p in predictions)
        if bool(torch.stack(sums).isfinite().all() & ((labels >= 0) & (labels < classes)).all()):
            return
    for p, t in zip(predictions, targets, strict=True):  # one is at fault, or a sum of finite numbers overflowed
        require_labels(t.labels, p.logits.shape[1])
        require_finite("logits", p.logits)
        require_finite("predicted boxes", p.boxes)
        if p.quality is not None:
            require_finite("quality", p.quality)
        require_finite("gt boxes", t.boxes)
        if t.ignore_boxes is not None:
            require_finite("ignore boxes", t.ignore_boxes)


def require_shapes(n: int, predictions: Predictions, targets: Targets) -> None:
    """Raise InputError when the shapes of one image disagree."""
    m = len(targets.boxes)
    if predictions.logits.ndim != 2 or len(predictions.logits) != n or predictions.boxes.shape != (n, 4):
        logits, boxes = tuple(predictions.logits.shape), tuple(predictions.boxes.shape)
        raise InputError(f"{n} anchor points need logits ({n}, C) and boxes ({n}, 4), not {logits} and {boxes}")
    if predictions.quality is not None and predictions.quality.shape != (n,):
        raise InputError(f"{n} anchor points need quality ({n},), not {tuple(predictions.quality.shape)}")
    if targets.boxes.shape != (m, 4) or targets.labels.shape != (m,):
        boxes, labels = tuple(targets.boxes.shape), tuple(targets.labels.shape)
        raise InputError(f"gt boxes must be (m, 4) and labels (m,), not {boxes} and {labels}")


def require_labels(labels: Int[Tensor, " m"], classes: int) -> None:
    """Raise InputError unless all labels are in 0..classes-1."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(f"gt labels {labels.unique().tolist()} are not all in 0..{classes - 1}")


def require_finite(name: str, values: Tensor) -> None:
    """Raise InputError with the first index at which `values` is NaN or infinite."""
    if values.sum().isfinite():  # one cheap pass; a sum that overflows is looked at again below
        return
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        first = tuple(bad[0].tolist())
        raise InputError(f"{name}: {len(bad)} non-finite values, the first is {values[first].item()} at {first}")


def all_background(points: AnchorPoints) -> Assignment:
    """The assignment of an image without gts."""
    device, n = points.xy.device, len(points)
    return Assignment(
        matched_gt=torch.full((n,), -1, dtype=torch.int64, device=device),
        supply=torch.full((1,), n, dtype=torch.int64, device=device),
        deficit=torch.zeros(0, dtype=torch.int64, device=device),
    )


def inside_any(xy: Float[Tensor, "n 2"], boxes: Float[Tensor, "c 4"]) -> Bool[Tensor, " n"]:
    """Which points lie inside at least one of the boxes."""
    return (box_ops.ltrb(xy[:, None], boxes).amin(dim=-1) > 0).any(dim=1)


def from_labels(matched_gt: Int[Tensor, " n"], num_gt: int) -> Assignment:
    """An assignment by rule: each gt supplies what it got, and no transport problem stands behind it.

    Ignored points (-2) count as the background's supply.
    """
    shipped = torch.bincount(matched_gt.clamp(min=-1) + 1, minlength=num_gt + 1)
    return Assignment(
        matched_gt=matched_gt,
        supply=torch.cat((shipped[1:], shipped[:1])),
        deficit=torch.zeros_like(shipped[1:]),
    )
