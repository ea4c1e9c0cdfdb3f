"""Optimal Transport Assignment: `ota` (exact) and the two ways of the paper and its code (Sinkhorn)."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner
from otalab.assign.cost import Cost, dynamic_k, fixed_k
from otalab.assign.prior import ClosestPrior, RadiusPrior, with_nearest_point
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.errors import InputError
from otalab.transport.semi_assignment import semi_assign


@dataclass(frozen=True)
class OTA(Assigner):
    """Algorithm 1 solved exactly, in float64, on the admissible pairs alone.

    Where the authors' code errs, this does not: forbidden pairs are absent instead of dear, so no float32 sum can
    make a point of them; a gt whose prior holds no point gets the point nearest to it; gts that want more points than
    there are get what exists (`Assignment.deficit` says what is missing); equal gts with equal k share.

    cost:  Eq. 2, see `Cost`
    prior: admissible pairs, see `otalab.assign.prior`
    q:     number of IoUs summed for the dynamic k; k: fixed supply (Eq. 4) instead, if not None
    """

    cost: Cost = field(default_factory=Cost)
    prior: RadiusPrior | ClosestPrior = field(default_factory=RadiusPrior)
    q: int = 20
    k: int | None = None

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        m, n = len(targets), len(points)
        # a nearest point is granted by geometry alone, so the mask does not depend on the predictions
        mask = with_nearest_point(self.prior(points, targets.boxes), points, targets.boxes)
        gt, point = mask.nonzero(as_tuple=True)  # the arcs, (a,) each
        iou, d = price(self.cost, points, predictions, targets, gt, point)
        columns, column = point.unique(return_inverse=True)  # only points with an arc can be positive
        dense_iou = torch.zeros(m, len(columns), dtype=iou.dtype, device=iou.device)
        dense_iou[gt, column] = iou
        k = dynamic_k(dense_iou, self.q, slack=1e-6) if self.k is None else fixed_k(m, self.k, iou.device)
        dense = torch.full_like(dense_iou, torch.inf)
        dense[gt, column] = d
        owner = share_among_twins(semi_assign(dense.cpu().numpy(), k.cpu().numpy()), targets)
        owner = torch.from_numpy(owner).to(columns.device)
        matched_gt = torch.full((n,), -1, dtype=torch.int64, device=columns.device)
        matched_gt[columns] = owner
        shipped = torch.bincount(owner + 1, minlength=m + 1)[1:]
        background = (n - shipped.sum()).reshape(1)
        return Assignment(
            matched_gt=matched_gt,
            supply=torch.cat((shipped, background)),
            deficit=k - shipped,
            make_cost=lambda: dense_cost(self.cost, points, predictions, targets, mask)[1],
            make_plan=lambda: one_hot_plan(matched_gt, m),
        )


@dataclass(frozen=True)
class SinkhornOTA(Assigner):
    """Algorithm 1 with Sinkhorn-Knopp and a decoding of its approximate plan, in float64.

    off_prior:  added to the cost of pairs outside the prior (the paper's "additional constant cost")
    prior_k:    count only IoUs of pairs inside the prior towards the dynamic k, as the authors' code does
    eps, max_iter: gamma and T of Algorithm 1
    rescale:    divide each row of the plan by its maximum before a point goes to the largest share, as that code does
    Raises InputError when the gts' supplies exceed the number of points (there the authors' code makes NaN).
    """

    cost: Cost = field(default_factory=Cost)
    prior: RadiusPrior | ClosestPrior = field(default_factory=ClosestPrior)
    off_prior: float = 100.0  # of the scale of the other costs, which stay below about 50
    prior_k: bool = False
    q: int = 20
    k: int | None = None
    eps: float = 0.1
    max_iter: int = 50
    rescale: bool = False

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        m, n = len(targets), len(points)
        mask = self.prior(points, targets.boxes)
        iou, cost = dense_cost(self.cost, points, predictions, targets, mask, self.off_prior)
        k = dynamic_k(iou * mask if self.prior_k else iou, self.q) if self.k is None else fixed_k(m, self.k, iou.device)
        if k.sum() > n:
            raise InputError(
                f"the gts' supply sums to {int(k.sum())} but demand is {n} anchor points; "
                "lower q or k, or enlarge the grid"
            )
        supply = torch.cat((k, (n - k.sum()).reshape(1)))
        plan = sinkhorn_of_the_authors(cost, supply.double(), self.eps, self.max_iter)
        share = plan / plan.amax(dim=1, keepdim=True) if self.rescale else plan
        owner = share.argmax(dim=0)  # the first of equal shares wins
        return Assignment(
            matched_gt=owner.masked_fill(owner == m, -1),
            supply=supply,
            deficit=torch.zeros_like(k),
            make_cost=lambda: cost,
            make_plan=lambda: plan,
        )


def share_among_twins(owner: np.ndarray, targets: Targets) -> np.ndarray:
    """Deal the points of gts of one box and class out in turn: the cost stays, and none starves beside its twin."""
    gts = torch.cat((targets.boxes, targets.labels[:, None]), dim=1)
    kind = gts.unique(dim=0, return_inverse=True)[1].cpu().numpy()  # (m,)
    for twins in np.flatnonzero(np.bincount(kind) > 1):
        columns = np.flatnonzero((owner >= 0) & (kind[owner] == twins))
        owner[columns] = np.resize(np.flatnonzero(kind == twins), len(columns))
    return owner


def price(
    cost: Cost,
    points: AnchorPoints,
    predictions: Predictions,
    targets: Targets,
    gt: Int[Tensor, " a"],
    point: Int[Tensor, " a"],
) -> tuple[Float[Tensor, " a"], Float[Tensor, " a"]]:
    """IoU, and cost minus the background's cost, of arcs (gt, point), in float64."""
    boxes, gt_boxes = predictions.boxes[point], targets.boxes[gt]
    class_logits = predictions.logits[point, targets.labels[gt]].double()
    iou = box_ops.iou(boxes, gt_boxes)
    return iou, cost.over_background(class_logits, iou, boxes, gt_boxes, points.stride[point])


def dense_cost(
    cost: Cost,
    points: AnchorPoints,
    predictions: Predictions,
    targets: Targets,
    mask: Bool[Tensor, "m n"],
    off_prior: float = torch.inf,
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m1 n"]]:
    """All IoUs and the full cost matrix, background row last, in float64."""
    # both boxes as seen from the point, which is how the authors' code measures them
    boxes = from_point(points.xy, predictions.boxes)  # (n, 4)
    gt_boxes = from_point(points.xy, targets.boxes[:, None])  # (m, n, 4)
    logits = predictions.logits.double()
    iou = box_ops.iou(boxes, gt_boxes)
    foreground = cost.classification(logits, targets.labels) + cost.regression(iou, boxes, gt_boxes, points.stride)
    foreground = foreground.where(mask, foreground + off_prior)
    return iou, torch.cat((foreground, cost.background(logits)[None]))


def from_point(xy: Float[Tensor, "n 2"], boxes: Float[Tensor, "*#shape 4"]) -> Float[Tensor, "*shape2 4"]:
    """xyxy boxes relative to each point."""
    left_top_right_bottom = box_ops.ltrb(xy, boxes)
    return left_top_right_bottom * left_top_right_bottom.new_tensor([-1, -1, 1, 1])


def sinkhorn_of_the_authors(
    cost: Float[Tensor, "m1 n"], supply: Float[Tensor, " m1"], eps: float, max_iter: int
) -> Float[Tensor, "m1 n"]:
    """The plan after `max_iter` log-domain iterations, columns then rows: rows are exact, columns are not.

    Source: the iteration of the official code, its 1e-8 inside the logarithms included; unit demands.
    """
    u, v = torch.ones_like(supply), torch.ones_like(cost[0])
    log_supply, log_demand = (supply + 1e-8).log(), (torch.ones_like(v) + 1e-8).log()

    def log_plan() -> Float[Tensor, "m1 n"]:  # summed in that code's order: beside a cost of 1e6, u + v would lose v
        return (u[:, None] - cost + v) / eps

    for _ in range(max_iter):
        v = eps * (log_demand - log_sum_exp(log_plan(), dim=0)) + v
        u = eps * (log_supply - log_sum_exp(log_plan(), dim=1)) + u
    return log_plan().exp()


def log_sum_exp(x: Float[Tensor, "m1 n"], dim: int) -> Float[Tensor, " k"]:
    """torch.logsumexp, bit for bit, without the arguments below -700 whose exp takes the CPU up to 20 times longer."""
    top = x.amax(dim, keepdim=True)  # each sum below has a term of 1, which drowns exp(-700)
    return (x - top).clamp_(min=-700.0).exp_().sum(dim).log_() + top.squeeze(dim)


def one_hot_plan(matched_gt: Int[Tensor, " n"], num_gt: int) -> Float[Tensor, "m1 n"]:
    """The integral plan of an assignment: one label to each point, from its gt or from the background (last row)."""
    owner = torch.where(matched_gt >= 0, matched_gt, num_gt)
    return torch.nn.functional.one_hot(owner, num_gt + 1).T.double()
