"""OTA's Sinkhorn on candidate arcs only, all images of a batch at once: proportional fitting of the plan itself."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from otalab.transport.arcs import ArcProblem
from otalab.transport.sinkhorn import check_options

FARTHEST = -600.0  # exponent to which smaller ones are raised: exp(-600) = 1e-261 leaves room for an entry to shrink
TINY = 1e-300  # instead of an empty sum


@dataclass(frozen=True, eq=False)
class ArcSinkhornSolution:
    """A plan on arcs. Float64.

    share       (m, s) what row i ships along its a-th arc; 0 where there is none
    background  (columns,) what the slack ships to each column
    price       (m,) potential of each row over its block's slack, in units of cost; 0 where it ships nothing
    """

    problem: ArcProblem = field(repr=False)
    share: Float[Tensor, "m s"]
    background: Float[Tensor, " columns"]
    price: Float[Tensor, " m"]

    def labels(self, rescale: bool = False) -> Int[Tensor, " columns"]:
        """The row that ships each column most, -1 for the slack: the lowest row wins a tie, the slack none.

        With `rescale` each supplier's shares are first divided by its largest, the slack's of the block too. The
        slack keeps a column to which nobody ships. Scatters only: nothing waits for the device.
        """
        problem = self.problem
        share, background = self.share, self.background.view(problem.blocks, problem.width)
        if rescale:
            share = share / share.amax(1, keepdim=True).clamp(min=TINY)
            background = background / background.amax(1, keepdim=True).clamp(min=TINY)
        column, flat = problem.column.flatten(), share.flatten()
        best = flat.new_zeros(problem.num_columns).scatter_reduce_(0, column, flat, "amax")
        nobody = len(problem)
        row = torch.arange(nobody, device=column.device)[:, None].expand_as(share).flatten()
        candidate = row.masked_fill((flat != best[column]) | (flat == 0), nobody)
        owner = column.new_full((problem.num_columns,), nobody).scatter_reduce_(0, column, candidate, "amin")
        return owner.masked_fill_((owner == nobody) | (background.flatten() > best), -1)


@torch.no_grad()
def arc_sinkhorn(problem: ArcProblem, *, eps: float = 0.1, max_iter: int = 50) -> ArcSinkhornSolution:
    """The iterations of `sinkhorn`, columns then rows from f = 0, on the plan's entries that can be positive.

    A half-step divides each column, or multiplies each row, of the plan by one number so that its sum is right. So
    the plan itself is fitted, without potentials, exponentials or a rebuilt matrix: after the same number of
    iterations it is that of the dense problem with costs d, the slack at 0 and +inf where there is no arc, and also
    that of the costs c = d + c_slack, which differ by a constant per column.

        eps       regularisation in units of cost
        max_iter  iterations; all are run

    The slack of a block supplies width - sum k. A row without arcs, or with k = 0, stays out. Float64, on the device of
    its input; work and memory grow with the arcs and the columns. Nothing waits for the device and no step loops over
    images or rows.

    An arc that is over 600 eps dearer than the cheapest supplier of its column counts as 600 eps dearer. At OTA's eps
    of 0.1 that is no matter; for an eps of 0.001 or less use `newton`. Infeasible problems give finite figures whose
    columns are not 1.
    """
    check_options(eps=eps, max_iter=max_iter, tol=0.0)
    column = problem.column
    is_arc = problem.cost.isfinite() & (problem.k > 0)[:, None]
    exponent = (problem.cost.double() / -eps).masked_fill(~is_arc, -torch.inf)
    k = problem.k.to(exponent)
    left = (problem.width - problem.per_block(k)).clamp_(min=0)

    # the first column step could overflow: so all is over the best supplier of the column, maybe the slack
    arcs = column.flatten()
    best = exponent.new_zeros(problem.num_columns).scatter_reduce_(0, arcs, exponent.flatten(), "amax")
    share = (exponent - best[column]).clamp_(min=FARTHEST).exp_() * is_arc  # (m, s)
    background = best.neg().clamp_(min=FARTHEST).exp_()  # (columns,)
    shares, by_block = share.view(-1), background.view(problem.blocks, problem.width)  # of the same numbers
    by_block *= (left > 0)[:, None]
    for _ in range(max_iter):
        sums = background.index_add(0, arcs, shares).clamp_(min=TINY)
        share /= sums[column]
        background /= sums
        share *= (k / share.sum(1).clamp_(min=TINY))[:, None]
        by_block *= (left / by_block.sum(1).clamp_(min=TINY))[:, None]

    return ArcSinkhornSolution(problem, share, background, potentials(problem, share, background[column], eps))


def potentials(
    problem: ArcProblem, share: Float[Tensor, "m s"], slack: Float[Tensor, "m s"], eps: float
) -> Float[Tensor, " m"]:
    """f_i - f_slack = d_ij + eps log(P_ij / P_slack,j), read off each row's largest entry."""
    share = torch.nn.functional.pad(share, (0, 1))  # so that a row has an entry to look at
    largest, arc = share.max(dim=1, keepdim=True)
    beside = torch.nn.functional.pad(slack, (0, 1), value=1.0).gather(1, arc).clamp(min=TINY)
    cost = torch.nn.functional.pad(problem.cost, (0, 1)).gather(1, arc)
    return (cost + eps * (largest.clamp(min=TINY) / beside).log()).where(largest > 0, 0.0).squeeze(1)
