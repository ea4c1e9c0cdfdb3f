"""OTA's Sinkhorn on candidate arcs only, for all images of a batch at once, by proportional fitting of the plan."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from otalab.transport.arcs import ArcProblem, highest_offers
from otalab.transport.sinkhorn import check_options

FARTHEST = -600.0  # lower bound on exponents: exp(-600) = 1e-261 leaves room for an entry to shrink
TINY = 1e-300  # lower bound on sums, so that nothing is divided by 0


@dataclass(frozen=True, eq=False)
class ArcSinkhornSolution:
    """A plan on arcs. Float64.

    share       (m, s) what row i ships along its a-th arc; 0 where there is no arc
    background  (columns,) what the slack ships to each column
    price       (m,) potential of each row minus that of its block's slack, in units of cost; 0 if it ships nothing
    """

    problem: ArcProblem = field(repr=False)
    share: Float[Tensor, "m s"]
    background: Float[Tensor, " columns"]
    price: Float[Tensor, " m"]

    def labels(self) -> Int[Tensor, " columns"]:
        """The row that ships each column most, -1 for the slack. The lowest row wins a tie; the slack wins none.

        The slack keeps a column to which no supplier ships. Nothing waits for the device.
        """
        share = self.share.where(self.share > 0, -torch.inf)
        owner, most = highest_offers(share, self.problem.column, self.problem.num_columns)
        return owner.masked_fill(self.background > most, -1)


@torch.no_grad()
def arc_sinkhorn(problem: ArcProblem, *, eps: float = 0.1, max_iter: int = 50) -> ArcSinkhornSolution:
    """Run the iterations of `sinkhorn`, columns then rows from f = 0, on the plan's entries that can be positive.

    A half-step divides each column of the plan, or multiplies each row, by one number that makes its sum right. So the
    plan itself is fitted, without potentials, exponentials or a rebuilt matrix. After the same number of iterations it
    equals the plan of `sinkhorn` on the dense problem with costs d, 0 for the slack, and +inf where there is no arc.
    The costs c = d + c_slack differ from d by a constant per column, so they have the same plan.

        eps       regularisation in units of cost
        max_iter  iterations; all are run

    The slack of a block supplies width - sum k. A row without arcs, or with k = 0, takes no part. Works in float64 on
    the device of its input; work and memory grow with the number of arcs and columns. Nothing waits for the device, and
    no step loops over images or rows.

    An arc that is over 600 eps dearer than the cheapest supplier of its column counts as 600 eps dearer. At OTA's eps
    of 0.1 that does not matter; for an eps of 0.001 or less use `newton`. Infeasible problems give finite figures, but
    their column sums are not 1. Raises InputError for an option out of range.
    """
    check_options(eps=eps, max_iter=max_iter)
    column = problem.column
    is_arc = problem.cost.isfinite() & (problem.k > 0)[:, None]
    exponent = (problem.cost.double() / -eps).masked_fill(~is_arc, -torch.inf)
    k = problem.k.to(exponent)
    left = (problem.width - problem.per_block(k)).clamp_(min=0)

    # exponents are relative to the best supplier of the column, perhaps the slack: else the first step could overflow
    arcs = column.flatten()
    best = exponent.new_zeros(problem.num_columns).scatter_reduce_(0, arcs, exponent.flatten(), "amax")
    share = (exponent - best[column]).clamp_(min=FARTHEST).exp_() * is_arc  # (m, s)
    background = best.neg().clamp_(min=FARTHEST).exp_()  # (columns,)
    shares, by_block = share.view(-1), background.view(problem.blocks, problem.width)  # views, not copies
    by_block *= (left > 0)[:, None]
    for _ in range(max_iter):
        sums = background.index_add(0, arcs, shares).clamp_(min=TINY)
        share /= sums[column]
        background /= sums
        share *= (k / share.sum(1).clamp_(min=TINY))[:, None]
        by_block *= (left / by_block.sum(1).clamp_(min=TINY))[:, None]

    # price: f_i - f_slack = d_ij + eps log(P_ij / P_slack,j), computed from each row's largest entry
    price = problem.cost + eps * (share.clamp(min=TINY) / background[column].clamp(min=TINY)).log()
    largest = pad(share, (0, 1)).argmax(1, keepdim=True)  # the padding, and so 0, of a row without arcs
    price = pad(price.where(share > 0, 0.0), (0, 1)).gather(1, largest).squeeze(1)
    return ArcSinkhornSolution(problem, share, background, price)
