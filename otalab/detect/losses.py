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

WEIGHTS = {"classification": 1.0, "box": 2.0, "quality": 0.5}  # the authors' code


def detection_losses(
    predictions: Sequence[Predictions], targets: Sequence[Targets], assignments: Sequence[Assignment]
) -> dict[str, Float[Tensor, ""]]:
    """Focal, GIoU and IoU-branch losses of a batch, weighted, to be summed.

    Each is summed over the batch and divided by the number of positives, averaged over processes, at least 1. The
    quality target is the IoU of the predicted box at assignment time; ignored points (-2) have no loss at all.
    """
    logits, classes, boxes, gt_boxes, quality = [], [], [], [], []
    for p, t, a in zip(predictions, targets, assignments, strict=True):
        positive, kept = a.positive, a.matched_gt > -2
        owner = a.matched_gt[positive]
        one_hot = torch.zeros_like(p.logits)
        one_hot[positive, t.labels[owner]] = 1
        logits.append(p.logits[kept])
        classes.append(one_hot[kept])
        boxes.append(p.boxes[positive])
        gt_boxes.append(t.boxes[owner].to(p.boxes))
        quality.append(p.quality[positive])
    boxes, gt_boxes, quality = torch.cat(boxes), torch.cat(gt_boxes), torch.cat(quality)
    iou = box_ops.iou(boxes.detach(), gt_boxes)
    normaliser = mean_over_processes(torch.tensor(float(len(boxes)), device=boxes.device)).clamp(min=1)
    losses = {
        "classification": sigmoid_focal_loss(torch.cat(logits), torch.cat(classes), reduction="sum"),
        "box": generalized_box_iou_loss(boxes, gt_boxes, reduction="sum"),
        "quality": F.binary_cross_entropy_with_logits(quality, iou, reduction="sum"),
    }
    return {name: WEIGHTS[name] * loss / normaliser for name, loss in losses.items()}


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes of a distributed run; the value itself in a single process."""
    if dist.is_available() and dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value
