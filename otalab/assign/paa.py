"""PAA: two Gaussians split the losses of a gt's candidates in two. Source: Kim and Lee, ECCV 2020, Sec. 3."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, from_labels
from otalab.assign.cost import Cost, focal
from otalab.assign.max_iou import MaxIoU
from otalab.assign.mixture import fit_two_gaussians
from otalab.assign.options import require_counts, require_not_negative
from otalab.assign.points import AnchorPoints
from otalab.assign.types import Assignment, Predictions, Targets

ROUNDING = 1e-12  # log densities as close as this are equal: two candidates are equally far from their mean


@dataclass(frozen=True)
class PAA(Assigner):
    """A gt keeps those of its anchor boxes that it is learnt best at, as two Gaussians of their losses tell.

    First each anchor box of IoU >= `iou` goes to its best gt, and each gt gets the one that overlaps it most (MaxIoU).
    Of these a gt's candidates are the `topk` of least loss on each level: focal loss of all classes + `reg_weight` x
    (1 - GIoU) of the predicted box with the gt, Sec. 3.1; `Predictions.quality` is not looked at. Two Gaussians are
    fitted to the candidates' losses. Positive are those of the Gaussian of the lower losses up to its densest
    candidate (Fig. 3(c), as both codes have it). All other points are background; none is ignored.

    iou:        least IoU with the best gt in the first stage
    topk:       candidates of a gt on each level
    scale:      side of the square anchor box on each point, in strides
    reg_weight: weight of the GIoU loss
    keep_lone:  whether a gt with a single candidate keeps it; the authors' code does, mmdetection does not
    reassign:   False leaves the labels of the first stage
    """

    iou: float = 0.1
    topk: int = 9
    scale: float = 8.0
    reg_weight: float = 1.3
    keep_lone: bool = False
    reassign: bool = True

    def __post_init__(self) -> None:
        _ = self.first_stage  # checks `iou` and `scale`
        require_counts(topk=self.topk)
        require_not_negative(reg_weight=self.reg_weight)

    @property
    def first_stage(self) -> MaxIoU:
        """The assigner that says which anchor boxes a gt may have at all."""
        return MaxIoU(pos_iou_thr=self.iou, neg_iou_thr=self.iou, scales=(self.scale,))

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        first = self.first_stage.assign(points, predictions, targets)
        point = first.positive.nonzero().squeeze(1)
        if not self.reassign or not len(point):
            return first
        owner = first.matched_gt[point]
        loss = self.losses(predictions, targets, point, owner)
        loss, order = loss.sort(stable=True)  # from here on the pairs of a gt come by rising loss
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
        """What the detector pays at each point for learning that gt, in float64."""
        logits = predictions.logits[point].double()
        own = logits.gather(1, targets.labels[owner, None])[:, 0]
        classification = Cost().background(logits) + focal(own, positive=True) - focal(own, positive=False)
        overlap = box_ops.iou(predictions.boxes[point], targets.boxes[owner], kind="giou")
        return classification + self.reg_weight * (1 - overlap)

    def separate(
        self, loss: Float[Tensor, " p"], owner: Int[Tensor, " p"], place: Int[Tensor, " p"], num_gt: int
    ) -> Bool[Tensor, " p"]:
        """Which candidates stay; `place` counts a gt's own by rising loss."""
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
    """How many earlier entries have the same number."""
    ordered, order = group.sort(stable=True)
    rank = torch.arange(len(group), device=group.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(rank).scatter(0, order, rank)
