"""Unbalanced transport between the gts, the background and the points. Source: De Plaen et al., CVPR 2023, and code."""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, from_labels
from otalab.assign.hungarian import DetrCost
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require
from otalab.transport.unbalanced import unbalanced_sinkhorn

FLOOR = 1e-8  # least value of the largest cost, by which all costs are divided


@dataclass(frozen=True)
class UOT(Assigner):
    """Unbalanced entropic transport: a plan may miss its marginals, at penalties weighted by tau_gt and tau_pred.

    Every point wants one unit, every gt offers `k` units, and the background offers the rest, n - k * m, but at least
    one unit. A point learns the supplier that sends it the largest share, which may be the background; ties go to the
    first. The paper trains with the shares themselves. Limits, approached as `reg` falls and `max_iter` grows:

    - tau_pred inf, tau_gt 0: each point learns the gt of least cost, if that costs less than the background
    - tau_pred 0, tau_gt inf: each gt is learnt by its point of least cost (for k = 1)
    - both inf: the Hungarian matching for k = 1; OTA's balanced transport with a fixed k for larger k

    cost:       a `DetrCost`, or None for the paper's cost for detectors with anchors: 1 - IoU of the gt and a square of
                8 strides on the point. For the SSD of the authors' code take None with background 0.8, tau_pred 1e3,
                tau_gt 1e-3 and k 1
    background: cost of the background for every point; without effect if both taus are infinite
    tau_pred, tau_gt: weights of the penalties: tau_pred for the points, tau_gt for the gts and the background. Their
                unit is that of the costs after division by the largest cost, the background's included
    k:          units that each gt offers. The paper has 1 and trains with the shares. Here a point learns one gt only,
                and if a single unit is spread over several points, it may be the largest share of none
    reg:        entropic regularisation: eps is reg / (ln(2 n) + 1)
    max_iter:   number of iterations, all of which are run
    """

    cost: DetrCost | None = field(default_factory=DetrCost)
    background: float = 10.0
    tau_pred: float = 1.0
    tau_gt: float = 1.0
    k: int = 5
    reg: float = 0.03
    max_iter: int = 70

    def __post_init__(self) -> None:
        require("be a whole number of at least 1", k=self.k, max_iter=self.max_iter)
        require("be positive and finite", reg=self.reg)
        require("be finite and not negative", background=self.background)
        require("not be negative", tau_pred=self.tau_pred, tau_gt=self.tau_gt)  # infinity makes a constraint

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        m, n = len(targets), len(points)
        cost = self.priced(points, predictions, targets)
        supply = torch.full_like(cost[:, 0], self.k)
        supply[-1] = max(n - self.k * m, 1)
        plan = unbalanced_sinkhorn(
            cost,
            supply / n,
            torch.full_like(cost[0], 1 / n),
            eps=self.reg / (math.log(2 * n) + 1),
            tau_rows=self.tau_gt,
            tau_columns=self.tau_pred,
            max_iter=self.max_iter,
        )
        owner = plan.argmax(dim=0)
        matched = from_labels(owner.masked_fill(owner == m, -1), m, self.k)
        return replace(matched, make_cost=lambda: cost, make_plan=lambda: plan * n)

    def priced(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Float[Tensor, "m1 n"]:
        """The cost of every pair, background row last, divided by the largest cost."""
        if self.cost is None:
            cost = 1 - box_ops.iou(points.boxes(), targets.boxes[:, None])
        else:
            cost = self.cost(points, predictions, targets)
        cost = torch.cat((cost, torch.full_like(cost[:1], self.background)))
        return cost / cost.amax().clamp(min=FLOOR)
