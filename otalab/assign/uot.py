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

FLOOR = 1e-8  # of the largest cost, by which all are divided


@dataclass(frozen=True)
class UOT(Assigner):
    """Entropic transport whose sums are wishes: tau_gt and tau_pred are the prices of missing them.

    Every point wants one unit, every gt offers `k` and the background the rest, n - k * m, but at least one unit. A
    point learns whoever sends it the largest share, the background included, the first of equals; the paper trains
    with the shares themselves. Limits, exact as `reg` falls and `max_iter` grows:

        tau_pred    tau_gt
        inf         0       each point learns the gt of least cost, if that costs less than the background
        0           inf     each gt is learnt by its k = 1 point of least cost
        inf         inf     the Hungarian matching for k = 1; OTA's balanced transport with a fixed k for more

    cost:       a `DetrCost`, or None for the paper's of detectors with anchors: 1 - IoU of the gt and a square of 8
                strides on the point. The SSD of the authors' code is None with background 0.8, taus 1e3 and 1e-3, k 1
    background: cost of the background for every point; without effect if both taus are infinite
    tau_pred, tau_gt: prices, in the unit of the costs once the largest, the background's included, is made 1
    k:          units that each gt offers; 1 in the paper, which trains with shares. Here a point learns one gt only,
                and a single unit, spread over several points, may be no point's largest share
    reg:        entropic regularisation: eps is reg / (ln(2 n) + 1)
    max_iter:   iterations, all of which are run
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
        require("not be negative", tau_pred=self.tau_pred, tau_gt=self.tau_gt)  # infinity is a limit of its own

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        m, n = len(targets), len(points)
        cost = self.priced(points, predictions, targets)
        supply = torch.full_like(cost[:, 0], self.k)
        supply[-1] = max(n - self.k * m, 1)
        found = unbalanced_sinkhorn(
            cost,
            supply / n,
            torch.full_like(cost[0], 1 / n),
            eps=self.reg / (math.log(2 * n) + 1),
            tau_rows=self.tau_gt,
            tau_columns=self.tau_pred,
            max_iter=self.max_iter,
        )
        owner = found.plan.argmax(dim=0)
        matched = from_labels(owner.masked_fill(owner == m, -1), m, self.k)
        return replace(matched, make_cost=lambda: cost, make_plan=lambda: found.plan * n)

    def priced(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Float[Tensor, "m1 n"]:
        """The cost of every pair, the background last, over the largest."""
        if self.cost is None:
            cost = 1 - box_ops.iou(points.boxes(), targets.boxes[:, None])
        else:
            cost = self.cost(points, predictions, targets)
        cost = torch.cat((cost, torch.full_like(cost[:1], self.background)))
        return cost / cost.amax().clamp(min=FLOOR)
