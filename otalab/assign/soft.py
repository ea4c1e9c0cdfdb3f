"""Shared parts of the assigners whose losses weigh points instead of using labels: loss terms, and labels to show."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from otalab.assign.base import best, from_labels
from otalab.assign.types import Assignment, Predictions

EPS = 1e-12  # the reference's value, wherever it keeps a number away from 0


def working_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype in which losses are computed: that of the network, but at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def working(predictions: Predictions) -> Predictions:
    """Cast predictions to the dtype of losses; they stay in their graph."""
    dtype = working_dtype(predictions.logits)
    return Predictions(*(None if x is None else x.to(dtype) for x in vars(predictions).values()))


def present(probability: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """The sum of -ln p over objects that are present, each term at most 100.

    Clamps p to 1, because a weighted mean of ones may round to more, which PyTorch's `binary_cross_entropy` refuses.
    """
    probability = probability.clamp(max=1)
    return F.binary_cross_entropy(probability, torch.ones_like(probability), reduction="sum")


def absent(probability: Float[Tensor, "n C"], gamma: float) -> Float[Tensor, "n C"]:
    """-p^gamma ln(1 - p) for objects that are absent: the focal loss of a probability."""
    loss = F.binary_cross_entropy(probability, torch.zeros_like(probability), reduction="none")
    return probability**gamma * loss


def hard_labels(weight: Float[Tensor, "m n"]) -> Assignment:
    """Make labels for pictures and tables from the weight of each point in each gt's loss.

    The losses use these labels only in ignore regions, where points that are background by these labels drop out.

    A gt takes its points in descending order of weight (the first of equals) until they hold half of its total weight.
    It takes at least one, if it has any weight. A point that several gts take goes to the gt of whose weight it has the
    largest share; ties go to the largest weight, then to the first gt. `label_weight` is that share at positives, and 1
    elsewhere.
    """
    share = weight / weight.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    value, order = share.sort(dim=1, descending=True, stable=True)
    before = value.cumsum(dim=1) - value
    taken = torch.zeros_like(share, dtype=torch.bool).scatter(1, order, (before < 0.5) & (value > 0))
    largest = share.where(taken, 0.0).amax(dim=0)
    matched_gt = best(weight, taken & (share == largest))
    own = share.gather(0, matched_gt.clamp(min=0)[None])[0]
    return replace(from_labels(matched_gt, len(weight)), label_weight=own.where(matched_gt >= 0, 1.0))
