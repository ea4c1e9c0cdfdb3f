"""The training losses of FCOS-OTA, given the labels."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from otalab import boxes as box_ops
from otalab.assign import Assignment, Predictions, Targets
from otalab.errors import InputError

WEIGHTS = {"classification": 1.0, "box": 2.0, "quality": 0.5}  # the authors' code


def detection_losses(
    predictions: Sequence[Predictions], targets: Sequence[Targets], assignments: Sequence[Assignment]
) -> dict[str, Float[Tensor, ""]]:
    """The losses of a batch, weighted, to be summed: those that the assignments bring along, or else the detector's.

    The detector's are focal, GIoU and IoU-branch losses, each summed over the batch and divided by the number of
    positives, see `count_positives`, at least one in all processes. Predictions have a quality; its
    target is the IoU of the predicted box at assignment time. Ignored points (-2) have no loss at all. A positive with
    a score learns that instead of 1 by the quality focal loss (Li et al., NeurIPS 2020, Sec. 3, beta 2).
    """
    if assignments and all(a.make_losses is not None for a in assignments):
        return own_losses(predictions, assignments)
    if any(p.quality is None for p in predictions):
        raise InputError("the detector's losses need the quality of every prediction, and one has none")
    logits, classes, label_weight, boxes, gt_boxes, quality, box_weight = [], [], [], [], [], [], []
    for p, t, a in zip(predictions, targets, assignments, strict=True):
        positive, kept = a.positive, a.kept
        owner = a.matched_gt[positive]
        target = torch.zeros_like(p.logits)
        target[positive, t.labels[owner]] = 1 if a.score is None else a.score[positive].to(target)
        logits.append(p.logits[kept])
        classes.append(target[kept])
        label_weight.append(at(a.label_weight, kept, p.logits))
        boxes.append(p.boxes[positive])
        gt_boxes.append(t.boxes[owner].to(p.boxes))
        quality.append(p.quality[positive])
        box_weight.append(at(a.box_weight, positive, p.boxes))
    boxes, gt_boxes, quality = torch.cat(boxes), torch.cat(gt_boxes), torch.cat(quality)
    label_weight, box_weight = torch.cat(label_weight), torch.cat(box_weight)
    iou = box_ops.iou(boxes.detach(), gt_boxes)
    soft = any(a.score is not None for a in assignments)
    focal = (quality_focal_loss if soft else sigmoid_focal_loss)(torch.cat(logits), torch.cat(classes))
    losses = {
        "classification": focal * label_weight[:, None],
        "box": generalized_box_iou_loss(boxes, gt_boxes) * box_weight,
        "quality": F.binary_cross_entropy_with_logits(quality, iou, reduction="none") * box_weight,
    }
    normaliser = at_least_one(count_positives(assignments)).to(box_weight)
    return {name: WEIGHTS[name] * loss.sum() / normaliser for name, loss in losses.items()}


def count_positives(assignments: Sequence[Assignment]) -> Float[Tensor, ""]:
    """Positives of a batch, or their weight if they have one, averaged over processes, float64."""
    weights = [a.positive if a.box_weight is None else a.box_weight * a.positive for a in assignments]
    return mean_over_processes(torch.stack([weight.sum(dtype=torch.float64) for weight in weights]).sum())


def at_least_one(count: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """What losses are divided by, given the mean over processes of what they count: at least one in all of them."""
    return count.clamp(min=1 / (dist.get_world_size() if in_group() else 1))


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes of a run; the value itself in a single one."""
    if in_group():
        value = value.clone()
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value


def own_losses(predictions: Sequence[Predictions], assignments: Sequence[Assignment]) -> dict[str, Float[Tensor, ""]]:
    """The losses that the assignments of a batch bring along, over what they count."""
    images = [a.losses(p) for a, p in zip(assignments, predictions, strict=True)]
    losses = {}
    for name in images[0]:
        total = torch.stack([image[name].total for image in images]).sum()
        count = torch.stack([image[name].count for image in images]).sum()
        losses[name] = total / at_least_one(mean_over_processes(count))
    return losses


def quality_focal_loss(logits: Float[Tensor, "k C"], target: Float[Tensor, "k C"]) -> Float[Tensor, "k C"]:
    """Cross entropy with a soft target, weighted by the squared error of the probability: nothing where it is met."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return entropy * (target - logits.sigmoid()).square()


def at(weight: Float[Tensor, " n"] | None, mask: Tensor, like: Tensor) -> Float[Tensor, " k"]:
    """The weights of the points in the mask, in the dtype of `like`; ones if there are none."""
    return like.new_ones(int(mask.sum())) if weight is None else weight[mask].to(like)


def in_group() -> bool:
    """Whether this process is one of several that learn together."""
    return dist.is_available() and dist.is_initialized()
