"""OTA as in the paper and in its authors' code: Sinkhorn-Knopp, then a decoding of its approximate plan."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from otalab.assign.base import Assigner, from_labels
from otalab.assign.cost import Cost, dynamic_k, fixed_k
from otalab.assign.prior import ClosestPrior, RadiusPrior
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require
from otalab.errors import InputError
from otalab.transport.sinkhorn import check_options, log_sum_exp


@dataclass(frozen=True)
class SinkhornOTA(Assigner):
    """Algorithm 1 by Sinkhorn-Knopp and a decoding of its approximate plan, in float64.

    off_prior:  added to the cost of pairs outside the prior (the paper's "additional constant cost")
    prior_k:    count only IoUs of pairs inside the prior towards the dynamic k, as the authors' code does
    eps, max_iter: gamma and T of Algorithm 1
    rescale:    divide each row of the plan by its maximum before the decoding, as the authors' code does

    In the decoding, each point goes to the supplier of its largest share; ties go to the first. Raises InputError if
    the gts' supplies exceed the number of points (the authors' code then gives NaN).
    """

    cost: Cost = field(default_factory=Cost)
    prior: RadiusPrior | ClosestPrior = field(default_factory=ClosestPrior)
    off_prior: float = 100.0  # on the scale of the other costs, which stay below about 50
    prior_k: bool = False
    q: int = 20
    k: int | None = None
    eps: float = 0.1
    max_iter: int = 50
    rescale: bool = False

    def __post_init__(self) -> None:
        check_options(eps=self.eps, max_iter=self.max_iter, tol=0.0)
        require("be finite and not negative", off_prior=self.off_prior)
        require("be a whole number of at least 0", k=self.k or 0)
        require("be a whole number of at least 1", q=self.q)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        m, n = len(targets), len(points)
        mask = self.prior(points, targets.boxes)
        iou, cost = self.cost.dense(points, predictions, targets, mask, self.off_prior)
        k = dynamic_k(iou * mask if self.prior_k else iou, self.q) if self.k is None else fixed_k(m, self.k, iou.device)
        if k.sum() > n:
            raise InputError(
                f"the gts' supply sums to {int(k.sum())} but demand is {n} anchor points; "
                "lower q or k, or enlarge the grid"
            )
        supply = torch.cat((k, (n - k.sum()).reshape(1)))
        plan, f = sinkhorn_of_the_authors(cost, supply.double(), self.eps, self.max_iter)
        share = plan / plan.amax(dim=1, keepdim=True) if self.rescale else plan
        owner = share.argmax(dim=0)  # the first of equal shares wins
        matched = from_labels(owner.masked_fill(owner == m, -1), m, k)
        return replace(matched, supply=supply, make_cost=lambda: cost, make_plan=lambda: plan, price=f[:-1] - f[-1])


def sinkhorn_of_the_authors(
    cost: Float[Tensor, "m1 n"], supply: Float[Tensor, " m1"], eps: float, max_iter: int
) -> tuple[Float[Tensor, "m1 n"], Float[Tensor, " m1"]]:
    """Run `max_iter` log-domain iterations, columns then rows; return the plan and the row potentials u.

    The demands are 1. The row sums of the plan are exact, its column sums are not. Source: the iteration of the
    official code, including its 1e-8 inside the logarithms.
    """
    u, v = torch.ones_like(supply), torch.ones_like(cost[0])
    log_supply, log_demand = (supply + 1e-8).log(), (torch.ones_like(v) + 1e-8).log()

    def log_plan() -> Float[Tensor, "m1 n"]:  # the authors' order: u + v, with u near 1e6, would lose digits of v
        return (u[:, None] - cost + v) / eps

    for _ in range(max_iter):
        v = eps * (log_demand - log_sum_exp(log_plan(), dim=0)) + v
        u = eps * (log_supply - log_sum_exp(log_plan(), dim=1)) + u
    return log_plan().exp(), u
