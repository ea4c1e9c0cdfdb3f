"""Label assignment without the background, as arcs: which row may take which column, at what cost.

Every column (anchor point) demands one label, and the slack supplier (the background) can serve any of them. Subtract
its cost, d_ij = c_ij - c_slack,j. The problem is then to choose x in {0, 1} that minimises sum d_ij x_ij with
sum_j x_ij = k_i and sum_i x_ij <= 1. The slack gets the columns that are left over. The constraints are totally
unimodular, so the optimum is also that of the linear program. Its dual has one price u_i per row and one rent
p_j >= 0 per column:

    maximise  sum_i k_i u_i - sum_j p_j   with   u_i - p_j <= d_ij,    at best  p_j = max(0, max_i (u_i - d_ij)).

So any prices u prove a bound, and a column without an arc has no influence.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

HOPS = 16  # rounds of a shortest-path search between two convergence checks


@dataclass(frozen=True, eq=False)
class ArcProblem:
    """Semi-assignment problems of one or many images, block by block, as rows of padded arcs.

    cost    (m, s) float64: what row i pays for its a-th arc, minus what the slack pays; +inf where there is no arc
    column  (m, s) int64: the column of each arc, at most once per row; any valid index where cost is +inf
    k       (m,) int64, not negative: how many columns row i wants
    block   (m,) int64, ascending: the block (image) of row i; its columns are block * width + (0 .. width - 1)
    width   number of columns of each block
    blocks  number of blocks; a block may have no rows
    """

    cost: Float[Tensor, "m s"]
    column: Int[Tensor, "m s"]
    k: Int[Tensor, " m"]
    block: Int[Tensor, " m"]
    width: int
    blocks: int = 1

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.k)

    @property
    def num_columns(self) -> int:
        """Number of columns of all blocks together."""
        return self.blocks * self.width

    def rents(self, price: Float[Tensor, " m"]) -> Float[Tensor, " columns"]:
        """p_j = max(0, max_i (u_i - d_ij)): the most that any row would pay for column j beyond its cost."""
        rents = self.cost.new_zeros(self.num_columns)
        offers = (price[:, None] - self.cost).flatten()
        return rents.scatter_reduce_(0, self.column.flatten(), offers, "amax")

    def per_block(self, values: Float[Tensor, " m"]) -> Float[Tensor, " blocks"]:
        """Sums over the rows of each block."""
        return values.new_zeros(self.blocks).index_add_(0, self.block, values)


@dataclass(frozen=True, eq=False)
class ArcSolution:
    """The row that gets each column, and the prices that prove it.

    owner  (blocks * width,) int64: row that takes the column, -1 for the slack
    price  (m,) float64: u_i, what row i would pay for one more column; any numbers prove a bound
    iterations  as the solver counts them; None if it does not
    converged   whether the solver finished; if not, some rows may have fewer columns than they could
    """

    problem: ArcProblem
    owner: Int[Tensor, " columns"]
    price: Float[Tensor, " m"]
    iterations: int | None = None
    converged: bool = True

    @cached_property
    def held(self) -> Bool[Tensor, "m s"]:
        """Mask of the arcs whose column the row took."""
        row = torch.arange(len(self.price), device=self.owner.device)[:, None]
        return (self.owner[self.problem.column] == row) & self.problem.cost.isfinite()

    @cached_property
    def shipped(self) -> Int[Tensor, " m"]:
        """How many columns each row got."""
        return self.held.sum(dim=1)

    @property
    def deficit(self) -> Int[Tensor, " m"]:
        """How many columns each row wanted but did not get."""
        return self.problem.k - self.shipped

    @property
    def objective(self) -> Float[Tensor, " blocks"]:
        """Total cost d of the columns taken, for each block."""
        return self.problem.per_block(self.problem.cost.where(self.held, 0.0).sum(dim=1))

    @property
    def dual_objective(self) -> Float[Tensor, " blocks"]:
        """sum_i shipped_i u_i - sum_j p_j for each block: a lower bound for every answer that ships the same counts."""
        problem = self.problem
        rents = problem.rents(self.price).view(problem.blocks, problem.width).sum(dim=1)
        return problem.per_block(self.price * self.shipped) - rents

    @property
    def gap(self) -> Float[Tensor, " blocks"]:
        """objective - dual_objective for each block; 0 proves the optimum."""
        return self.objective - self.dual_objective


def highest_offers(
    offer: Float[Tensor, "m a"], column: Int[Tensor, "m a"], num_columns: int
) -> tuple[Int[Tensor, " columns"], Float[Tensor, " columns"]]:
    """The row that offers most for each column, and its offer; the first row wins a tie. -1 and -inf if none offers.

    An offer of -inf is none. Uses scatters only, so nothing waits for the device.
    """
    nobody = len(offer)
    highest = offer.new_full((num_columns,), -torch.inf)
    highest.scatter_reduce_(0, column.flatten(), offer.flatten(), "amax")
    wins = (offer == highest[column]) & (offer > -torch.inf)
    row = torch.arange(nobody, device=offer.device)[:, None].where(wins, nobody)
    first = column.new_full((num_columns,), nobody).scatter_reduce_(0, column.flatten(), row.flatten(), "amin")
    return first.where(first < nobody, -1), highest


def lowest_prices(problem: ArcProblem, owner: Int[Tensor, " columns"]) -> Float[Tensor, " m"]:
    """The lowest prices that prove the owners optimal. If the owners are not optimal, the prices prove a looser bound.

    For each column j that row i owns, u_i >= d_ij, and u_i - d_ij >= u_r - d_rj for each other row r with an arc to j.
    Bellman-Ford finds the least solution in at most one round per row. The host checks for convergence every HOPS
    rounds.
    """
    cost, column = problem.cost, problem.column
    if cost.numel() == 0:
        return cost.new_zeros(len(problem))
    holder = owner[column].where(cost.isfinite(), -1)  # (m, s)
    mine = holder == torch.arange(len(problem), device=owner.device)[:, None]
    spent = cost.where(mine, -torch.inf)
    paid = spent.new_full((problem.num_columns,), -torch.inf)
    paid.scatter_reduce_(0, column.flatten(), spent.flatten(), "amax")
    price = spent.amax(1).where(mine.any(1), cost.amin(1))  # any low price suits a row that got nothing
    price = price.where(price < torch.inf, 0.0)
    more = (paid[column] - cost).masked_fill(mine | (holder < 0), -torch.inf)
    for hop in range(len(problem)):
        before, offers = price, (price[:, None] + more).flatten()
        price = price.scatter_reduce(0, holder.clamp(min=0).flatten(), offers, "amax")
        if hop % HOPS == HOPS - 1 and torch.equal(price, before):
            break
    return price
