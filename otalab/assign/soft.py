"""What the assigners share whose labels are weights inside a loss: its pieces, and labels for those who want them."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from otalab.assign.base import best, from_labels
from otalab.assign.types import Assignment, Predictions

EPS = 1e-12  # the reference's, in every place where it keeps a number from 0


def working_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of losses: that of the network, but float32 for less."""
    return torch.promote_types(tensor.dtype, torch.float32)


def working(predictions: Predictions) -> Predictions:
    """Predictions in the dtype of losses, still in their graph."""
    logits, boxes, quality = predictions.logits, predictions.boxes, predictions.quality
    dtype = working_dtype(logits)
    return Predictions(logits.to(dtype), boxes.to(dtype), None if quality is None else quality.to(dtype))


def present(probability: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """-ln p of objects that are there, summed; at most 100 each.

    A weighted mean of ones may round to more than 1, which the library's cross entropy refuses.
    """
    probability = probability.clamp(max=1)
    return F.binary_cross_entropy(probability, torch.ones_like(probability), reduction="sum")


def absent(probability: Float[Tensor, "n C"], gamma: float) -> Float[Tensor, "n C"]:
    """-p^gamma ln(1 - p) of objects that are not there: focal loss of a probability."""
    loss = F.binary_cross_entropy(probability, torch.zeros_like(probability), reduction="none")
    return probability**gamma * loss


def hard_labels(weight: Float[Tensor, "m n"]) -> Assignment:
    """Labels for pictures and tables, of the weight of each point in each gt's loss.

    The losses see them only where an ignore region lies: points that are background by these labels drop out there.

    A gt takes its points in descending order of weight, of equals the first, until they hold half of all its weight;
    at least one, if it has weight at all. A point that several take goes to the gt in which it has the largest share,
    of equals to that of the largest weight. `label_weight` is that share at positives, and 1 elsewhere.
    """
    share = weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    value, order = share.sort(dim=1, descending=True, stable=True)
    before = value.cumsum(dim=1) - value
    taken = torch.zeros_like(share, dtype=torch.bool).scatter(1, order, (before < 0.5) & (value > 0))
    largest = share.where(taken, 0.0).amax(dim=0)
    matched_gt = best(weight, taken & (share == largest))
    own = share.gather(0, matched_gt.clamp(min=0)[None])[0]
    return replace(from_labels(matched_gt, len(weight)), label_weight=own.where(matched_gt >= 0, 1.0))
