"""The training losses of FCOS-OTA, given the labels."""

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from otalab import boxes as box_ops
from otalab.assign import Assignment, Predictions, Targets
from otalab.assign.types import IGNORED
from otalab.detect.distributed import mean_over_processes, num_processes
from otalab.errors import InputError

WEIGHTS = {"classification": 1.0, "box": 2.0, "quality": 0.5}  # the authors' code


def detection_losses(
    predictions: Sequence[Predictions], targets: Sequence[Targets], assignments: Sequence[Assignment]
) -> dict[str, Float[Tensor, ""]]:
    """The weighted losses of a batch, by name; the total loss is their sum.

    If the assignments have losses of their own, these are returned. Otherwise the losses are focal loss, GIoU loss and
    IoU-branch loss, each summed over the batch and divided by the number of positives (`count_positives`), which is at
    least one over all processes. The IoU branch learns the IoU of the predicted box at assignment time; predictions
    without a quality have no such loss. Ignored points (-2) have no loss at all. If any positive
    has a score, it learns that instead of 1, and the quality focal loss (Li et al., NeurIPS 2020, Sec. 3, beta 2) takes
    the place of the focal loss.

    Raises InputError for a batch in which some predictions have a quality and some have none.
    """
    if assignments and all(a.make_losses is not None for a in assignments):
        return own_losses(predictions, assignments)
    without = sum(p.quality is None for p in predictions)
    if 0 < without < len(predictions):
        raise InputError(f"{without} of {len(predictions)} predictions lack a quality; all must have one, or none")
    logits, boxes = (torch.cat([getattr(p, name) for p in predictions]) for name in ("logits", "boxes"))
    labels = torch.cat([t.labels for t in targets])
    matched = torch.cat([a.matched_gt for a in assignments])
    soft = any(a.score is not None for a in assignments)
    score, label_weight, box_weight = (
        torch.cat([or_ones(getattr(a, name), a, logits) for a in assignments])
        for name in ("score", "label_weight", "box_weight")
    )

    positive = (matched >= 0).nonzero().squeeze(1)  # the only time that the host waits for the device
    first = accumulate((len(t) for t in targets), initial=0)  # index of each image's first gt
    owner = torch.cat([a.matched_gt + i for a, i in zip(assignments, first, strict=False)])[positive]
    target = torch.zeros_like(logits).index_put_((positive, labels[owner]), score[positive])
    gt_boxes = torch.cat([t.boxes for t in targets])[owner].to(boxes)
    boxes, box_weight = boxes[positive], box_weight[positive]

    iou = box_ops.iou(boxes.detach(), gt_boxes)
    focal = (quality_focal_loss if soft else sigmoid_focal_loss)(logits, target)
    losses = {
        "classification": focal * label_weight.where(matched != IGNORED, 0)[:, None],
        "box": generalized_box_iou_loss(boxes, gt_boxes) * box_weight,
    }
    if not without:
        quality = torch.cat([p.quality for p in predictions])[positive]
        losses["quality"] = F.binary_cross_entropy_with_logits(quality, iou, reduction="none") * box_weight
    normaliser = at_least_one(count_positives(assignments)).to(box_weight)
    return {name: WEIGHTS[name] * loss.sum() / normaliser for name, loss in losses.items()}


def or_ones(values: Float[Tensor, " n"] | None, assignment: Assignment, like: Tensor) -> Float[Tensor, " n"]:
    """An assignment's values, one for each point, in the dtype of `like`; ones if it has none."""
    return like.new_ones(len(assignment.matched_gt)) if values is None else values.to(like)


def count_positives(assignments: Sequence[Assignment]) -> Float[Tensor, ""]:
    """Number of positives of a batch, or sum of their `box_weight` if they have one: mean over processes, float64."""
    weights = [a.positive if a.box_weight is None else a.box_weight * a.positive for a in assignments]
    return mean_over_processes(torch.stack([weight.sum(dtype=torch.float64) for weight in weights]).sum())


def at_least_one(count: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The divisor of a loss: what it counts, as a mean over processes, and at least one in all of them together."""
    return count.clamp(min=1 / num_processes())


def own_losses(predictions: Sequence[Predictions], assignments: Sequence[Assignment]) -> dict[str, Float[Tensor, ""]]:
    """The assignments' own losses: for each, its total over the batch divided by its count."""
    images = [a.losses(p) for a, p in zip(assignments, predictions, strict=True)]
    losses = {}
    for name in images[0]:
        total = torch.stack([image[name].total for image in images]).sum()
        count = torch.stack([image[name].count for image in images]).sum()
        losses[name] = total / at_least_one(mean_over_processes(count))
    return losses


def quality_focal_loss(logits: Float[Tensor, "k C"], target: Float[Tensor, "k C"]) -> Float[Tensor, "k C"]:
    """Cross entropy with a soft target, weighted by the squared error of the probability, so 0 at the target."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return entropy * (target - logits.sigmoid()).square()
