"""The exact optimum found by bidding: duality as a market. Batched, and on the device of its input.

Rows (gts) bid for columns (anchor points). A column has a price p_j, 0 until somebody takes it, and row i compares
what each column costs it in all, d_ij + p_j. A row short of columns bids for what it holds and the best of the
others, k_i in all, and so much that they become as dear to it as the next best, plus eps. The highest bid takes the
column; the former owner is short again. So no row ever holds a column that is dearer to it, by more than eps, than
one it does not hold (eps-CS). Prices only rise, so this ends; the prices then prove that the total is within eps a
label of the optimum (Bertsekas 1988; Bertsekas and Castanon 1989 for rows that want several columns).

Two rows after the same few columns could outbid each other by eps for ages: a price war. `_Market.settle` ends it at
a stroke: it raises all prices as far as eps-CS lets them, the dual step of the Hungarian method (Goldberg and Kennedy
1995 call it a global price update). What holds a price down is a shortest path, from the row over the columns it
could win and their owners, to a column that nobody holds. So eps may be tiny from the start and needs no scaling, and
a column that nobody takes keeps price 0, as the optimum demands.
"""

import warnings

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab.checks import require
from otalab.errors import InputError
from otalab.transport.arcs import HOPS, ArcProblem, ArcSolution, lowest_prices


@torch.no_grad()
def auction(problem: ArcProblem, *, tol: float = 1e-9, max_rounds: int = 10_000, check_every: int = 4) -> ArcSolution:
    """Give every row its k columns at the least total cost; if that cannot be, as many labels as possible.

        tol          eps over the range of a block's costs: `gap` of a block is at most tol * range * labels (and
                     what float64 cannot resolve). A tie-free optimum is found label by label once the second best
                     answer costs more than that
        max_rounds   rounds of bidding; warns if rows are still short then, and returns what they hold
        check_every  rounds between two looks whether all is sold, and between two settlements of price wars

    A row may pay a cap for a column, dearer than any exchange of columns of its block could be, and stops there: so
    a row that cannot get its k, for want of arcs or since others need its columns more, ends short (`deficit`), and
    the gap of what was shipped is as small. Ties are broken as `topk` orders equals, which may differ by device; the
    objective does not depend on it, within the gap.

    The host reads two numbers at the start and one flag every `check_every` rounds. A settlement of price wars reads
    one flag for every 16 hops of its shortest paths, and so do the final prices. `iterations` counts rounds. Raises
    InputError for an option out of range, and for NaN or -inf in the cost.
    """
    require("not be negative", tol=tol)
    require("be a whole number of at least 1", max_rounds=max_rounds, check_every=check_every)
    market = _Market(problem, tol)
    rounds = 0
    sold_out = market.most == 0
    while not sold_out and rounds < max_rounds:
        if rounds > 0:
            market.settle()
        for _ in range(min(check_every, max_rounds - rounds)):
            bidding = market.bid()
            rounds += 1
        sold_out = not bool(bidding.any())
    if not sold_out:
        warnings.warn(f"auction: rows still bid after {rounds} rounds", stacklevel=2)
    owner = market.owner[:-1]
    price = lowest_prices(problem, owner)  # those of the market are off by eps a bid
    return ArcSolution(problem, owner, price, iterations=rounds, converged=sold_out)


class _Market:
    """Who holds which column at what price. Padding leads to one more column, the last, which nobody can pay."""

    def __init__(self, problem: ArcProblem, tol: float):
        m, nowhere = len(problem), problem.num_columns
        is_arc = problem.cost.isfinite()
        self.cost = torch.nn.functional.pad(problem.cost, (0, 1), value=torch.inf)  # (m, s + 1)
        self.column = torch.nn.functional.pad(problem.column.where(is_arc, nowhere), (0, 1), value=nowhere)
        self.k = problem.k[:, None]
        self.row = torch.arange(m, device=self.k.device)[:, None]
        self.most = min(_largest_k(problem), problem.cost.shape[1])  # columns that a row can get
        self.cap, self.eps = _cap_and_eps(problem, tol)
        self.price = self.cost.new_zeros(nowhere + 1)
        self.owner = self.k.new_full((nowhere + 1,), -1)

    @property
    def held(self) -> Bool[Tensor, "m arcs"]:
        """Arcs whose column the row holds."""
        return self.owner[self.column] == self.row

    @property
    def total(self) -> Float[Tensor, "m arcs"]:
        """What a column costs the row in all."""
        return self.cost + self.price[self.column]

    def bid(self) -> Bool[Tensor, "m most"]:
        """One round: all short rows bid at once, the highest bid wins. Returns who bids, for the k best columns."""
        total = self.total.masked_fill(self.held, -torch.inf)  # what it holds comes first
        total, arc = total.topk(self.most + 1, dim=1, largest=False)
        next_best = total.gather(1, self.k.clamp(max=self.most)).minimum(self.cap)
        total, arc = total[:, :-1], arc[:, :-1]
        rank = torch.arange(self.most, device=arc.device)
        wants = (rank < self.k) & (total < self.cap)
        bids = wants & (wants & (total > -torch.inf)).any(dim=1, keepdim=True)  # a short row defends what it holds too
        column = self.column.gather(1, arc).flatten()
        bid = (next_best + self.eps - self.cost.gather(1, arc)).masked_fill(~bids, -torch.inf).flatten()

        highest = torch.full_like(self.price, -torch.inf).scatter_reduce_(0, column, bid, "amax")
        nobody = len(self.k)
        bidder = self.row.expand_as(arc).flatten().where(bids.flatten() & (bid == highest[column]), nobody)
        winner = torch.full_like(self.owner, nobody).scatter_reduce_(0, column, bidder, "amin")
        sold = winner < nobody
        self.owner = winner.where(sold, self.owner)
        self.price = highest.where(sold, self.price)
        return bids

    def settle(self) -> None:
        """Raise the prices of what each row holds by the most that keeps it within eps of the row's best.

        Row i holds nothing dearer than `worst`. It could pay rise_i more if each other column of its own were
        worst + rise_i - eps at least: a free one stays as it is, one that row l holds rises by rise_l. So
        rise_i = min over them of total - worst + eps + rise_l, found from above as Bellman and Ford find a path.
        """
        total, held, owner = self.total, self.held, self.owner[self.column]
        worst = total.masked_fill(~held, -torch.inf).amax(dim=1, keepdim=True)  # -inf: holds nothing, inf to rise
        step = (total - worst + self.eps).clamp(min=0).masked_fill(held, torch.inf)
        rise = (self.cap - worst).clamp(min=0).squeeze(1)
        found = False
        while not found:
            for _ in range(HOPS):
                before, through = rise, torch.nn.functional.pad(rise, (0, 1))[owner]  # [-1] is 0: nobody's column
                rise = rise.minimum((step + through).amin(dim=1))
            found = bool((rise == before).all())
        self.price = self.price + rise[self.owner].where(self.owner >= 0, 0.0)


def _largest_k(problem: ArcProblem) -> int:
    """The most that a row wants. Raises InputError for NaN or -inf in the cost; both are read at once."""
    if len(problem) == 0:
        return 0
    bad = (problem.cost.isnan() | problem.cost.isneginf()).any(dim=1)
    most, broken = torch.stack((problem.k.max(), bad.any().long())).tolist()
    if broken:
        raise InputError(f"cost is NaN or -inf in row {int(bad.nonzero()[0])}; it takes finite numbers or +inf")
    return most


def _cap_and_eps(problem: ArcProblem, tol: float) -> tuple[Float[Tensor, "m 1"], Float[Tensor, "m 1"]]:
    """The most that a row pays in all for a column, and the least raise of a bid, each of the row's block."""
    cost, block = torch.nn.functional.pad(problem.cost, (0, 1), value=torch.inf), problem.block
    per_block = cost.new_zeros(problem.blocks)
    least = per_block.scatter_reduce(0, block, cost.amin(dim=1), "amin", include_self=False)
    cost = cost.masked_fill(cost.isinf(), -torch.inf)
    most = per_block.scatter_reduce(0, block, cost.amax(dim=1), "amax", include_self=False)
    most = most.where(most.isfinite(), 0.0)
    spread = (most - least).where(most > least, 1.0 + most.abs())
    rows = problem.per_block(torch.ones_like(problem.k, dtype=cost.dtype))
    cap = most + (2 * rows + 1) * spread
    eps = torch.maximum(tol * spread, 2.0**-48 * (cap.abs() + most.abs()))
    return cap[block, None], eps[block, None]
