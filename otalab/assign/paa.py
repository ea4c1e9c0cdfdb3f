"""PAA: two Gaussians of their losses split a gt's candidates in two. Source: Kim and Lee, ECCV 2020, Sec. 3."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, from_labels
from otalab.assign.cost import Cost
from otalab.assign.max_iou import MaxIoU
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require

ROUNDING = 1e-12  # log densities this close are equal: those of two candidates equally far from their mean
TOLERANCE = 1e-3  # a fit ends once its mean log likelihood changes by less than this, as in scikit-learn
MAX_STEPS = 100
FLOOR = 1e-6  # added to each variance
ALIKE = 1e-9  # a number is of Gaussian 0 unless the other's log density is higher by more: for numbers nearly equal
PATIENCE = 10  # steps between checks whether all fits have ended, since each check waits for the device


@dataclass(frozen=True)
class PAA(Assigner):
    """Each gt keeps its anchor boxes of low loss; two Gaussians, fitted to the losses, separate them from the others.

    In the first stage, each anchor box of IoU >= `iou` goes to its best gt, and each gt gets the one that overlaps it
    most (MaxIoU). Among a gt's anchor boxes, its candidates are the `topk` of least loss on each level. The loss is the
    focal loss of all classes + `reg_weight` x (1 - GIoU) of the predicted box and the gt (Sec. 3.1).
    `Predictions.quality` is not used.

    Two Gaussians are then fitted to the candidates' losses. The positives are the candidates of the Gaussian of lower
    losses, up to the one of highest density (Fig. 3(c), as in the authors' code and mmdetection). All other points are
    background; none is ignored.

    iou:        least IoU with the best gt in the first stage
    topk:       candidates of a gt on each level
    scale:      side of the square anchor box on each point, in strides
    reg_weight: weight of the GIoU loss
    keep_lone:  whether a gt with a single candidate keeps it, as in the authors' code; mmdetection drops it
    reassign:   whether to run the second stage; False returns the labels of the first
    """

    iou: float = 0.1
    topk: int = 9
    scale: float = 8.0
    reg_weight: float = 1.3
    keep_lone: bool = False
    reassign: bool = True

    def __post_init__(self) -> None:
        require("be above 0 and at most 1", iou=self.iou)
        require("be positive and finite", scale=self.scale)
        require("be a whole number of at least 1", topk=self.topk)
        require("be finite and not negative", reg_weight=self.reg_weight)

    @property
    def first_stage(self) -> MaxIoU:
        """The assigner that decides which anchor boxes a gt may have."""
        return MaxIoU(pos_iou_thr=self.iou, neg_iou_thr=self.iou, scales=(self.scale,))

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        first = self.first_stage.assign(points, predictions, targets)
        point = first.positive.nonzero().squeeze(1)
        if not self.reassign or not len(point):
            return first
        owner = first.matched_gt[point]
        loss = self.losses(predictions, targets, point, owner)
        loss, order = loss.sort(stable=True)  # from here on, each gt's pairs are in order of ascending loss
        point, owner = point[order], owner[order]
        candidate = rank_in_group(owner * len(points) + points.level[point]) < self.topk  # levels are fewer than points
        loss, point, owner = loss[candidate], point[candidate], owner[candidate]
        place = rank_in_group(owner)
        kept = self.separate(loss, owner, place, len(targets))
        matched = torch.full_like(first.matched_gt, -1)
        matched[point] = owner.masked_fill(~kept, -1)
        return from_labels(matched, len(targets))

    def losses(
        self, predictions: Predictions, targets: Targets, point: Int[Tensor, " p"], owner: Int[Tensor, " p"]
    ) -> Float[Tensor, " p"]:
        """The detector's loss for learning gt `owner` at each point, in float64."""
        logits = predictions.logits[point].double()
        own = logits.gather(1, targets.labels[owner, None])[:, 0]
        yes, no = (sigmoid_focal_loss(own, torch.full_like(own, target)) for target in (1.0, 0.0))
        classification = Cost().background(logits) + yes - no
        overlap = box_ops.iou(predictions.boxes[point], targets.boxes[owner], kind="giou")
        return classification + self.reg_weight * (1 - overlap)

    def separate(
        self, loss: Float[Tensor, " p"], owner: Int[Tensor, " p"], place: Int[Tensor, " p"], num_gt: int
    ) -> Bool[Tensor, " p"]:
        """Mask of the candidates that stay positive; `place` is a candidate's rank by loss among those of its gt."""
        longest = int(place.max()) + 1
        table = loss.new_full((num_gt, longest), torch.inf)
        table[owner, place] = loss
        valid = table.isfinite()
        good, density = fit_two_gaussians(table, valid)
        good &= valid
        density = density.masked_fill(~good, -torch.inf)
        densest = (density >= density.amax(dim=1, keepdim=True) - ROUNDING).int().argmax(dim=1, keepdim=True)
        good &= torch.arange(longest, device=loss.device) <= densest
        alone = valid.sum(dim=1, keepdim=True) == 1
        good = torch.where(alone, valid & self.keep_lone, good)
        return good[owner, place]


def rank_in_group(group: Int[Tensor, " p"]) -> Int[Tensor, " p"]:
    """For each entry, the number of earlier entries of the same group."""
    ordered, order = group.sort(stable=True)
    rank = torch.arange(len(group), device=group.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(rank).scatter(0, order, rank)


def fit_two_gaussians(
    x: Float[Tensor, "m s"], valid: Bool[Tensor, "m s"]
) -> tuple[Bool[Tensor, "m s"], Float[Tensor, "m s"]]:
    """Fit a mixture of two Gaussians to each row: which numbers are of Gaussian 0, and each one's log density.

    The log density is that of the mixture. Expectation maximisation starts with the least and the greatest number as
    means, variances 1 and weights 1/2. Gaussian 0 is the one that started at the least number. It gets the numbers that
    both explain equally well. Numbers that are not `valid` are not used, and a row may have no valid ones.
    """
    count = valid.sum(dim=1).clamp(min=1)
    least = x.masked_fill(~valid, torch.inf).amin(dim=1, keepdim=True)
    x = (x - least).masked_fill(~valid, 0.0)  # removes the digits that all numbers share
    greatest = x.amax(dim=1)
    mean = torch.stack((torch.zeros_like(greatest), greatest), dim=1)  # (m, 2)
    variance, weight = torch.ones_like(mean), torch.full_like(mean, 0.5)
    likelihood = torch.full_like(mean[:, 0], -torch.inf)
    ended = torch.zeros_like(valid[:, 0])
    for step in range(1, MAX_STEPS + 1):
        density = log_density(x, mean, variance, weight)
        total = density.logsumexp(dim=-1)
        share = (density - total[..., None]).exp() * valid[..., None]  # (m, s, 2)
        mass = share.sum(dim=1) + 10 * torch.finfo(x.dtype).eps
        new_mean = (share * x[..., None]).sum(dim=1) / mass
        new_variance = (share * (x[..., None] - new_mean[:, None]).square()).sum(dim=1) / mass + FLOOR
        new_weight = mass / mass.sum(dim=1, keepdim=True)
        going = ~ended[:, None]
        mean, variance, weight = (
            torch.where(going, new, old)
            for new, old in ((new_mean, mean), (new_variance, variance), (new_weight, weight))
        )
        before, likelihood = likelihood, (total * valid).sum(dim=1) / count
        ended = ended | ((likelihood - before).abs() < TOLERANCE)
        if step % PATIENCE == 0 and bool(ended.all()):
            break
    density = log_density(x, mean, variance, weight)
    return density[..., 0] >= density[..., 1] - ALIKE, density.logsumexp(dim=-1)


def log_density(
    x: Float[Tensor, "m s"], mean: Float[Tensor, "m 2"], variance: Float[Tensor, "m 2"], weight: Float[Tensor, "m 2"]
) -> Float[Tensor, "m s 2"]:
    """Logarithm of each weighted Gaussian density at each number."""
    deviation = (x[..., None] - mean[:, None]).square() / variance[:, None]
    return (weight.log() - 0.5 * (2 * math.pi * variance).log())[:, None] - 0.5 * deviation
