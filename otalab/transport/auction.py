"""Find the exact optimum by bidding in a market, on the device of the input and for all images of a batch at once.

Rows (gts) bid for columns (anchor points). A column has a price p_j, which is 0 until a row takes it. Row i compares
the total costs d_ij + p_j of its columns. A row that is short of columns bids for the k_i best: first those it holds,
then the cheapest others. Each bid raises the column's total cost to that of the row's next best column, plus eps.
The highest bid wins the column, and its former owner is short again. So the total cost to a row of a column that it
holds never exceeds that of one that it does not hold by more than eps (eps-complementary slackness, eps-CS). Prices
only rise, so the bidding ends. The prices then prove that the objective is within eps per label of the optimum
(Bertsekas 1988; Bertsekas and Castanon 1989 for rows that want several columns).

Two rows that want the same few columns could outbid each other by eps for a very long time: a price war.
`_Market.settle` ends it in one step. It raises all prices as far as eps-CS allows, which is the dual step of the
Hungarian method (Goldberg and Kennedy 1995 call it a global price update). The limit on a price is a shortest path: it
leads from the row, over the columns that it could win and their owners, to a column that no row holds. So eps may be
tiny from the start and needs no scaling. A column that no row takes keeps price 0, as optimality requires.
"""

import warnings

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab.checks import require
from otalab.errors import InputError
from otalab.transport.arcs import HOPS, ArcProblem, ArcSolution, highest_offers, lowest_prices


@torch.no_grad()
def auction(problem: ArcProblem, *, tol: float = 1e-9, max_rounds: int = 10_000, check_every: int = 4) -> ArcSolution:
    """Give every row its k columns at the least total cost, or, if that cannot be, ship as many labels as possible.

        tol          eps divided by the range of a block's costs. The `gap` of a block is at most tol * range * labels
                     (plus what float64 cannot resolve). If all other answers are dearer than the optimum by more
                     than that, the labels are the optimal ones
        max_rounds   most rounds of bidding; if rows are still short after them, warns and returns what they hold
        check_every  rounds between two checks whether the bidding has ended, and between two settlements of price wars

    A row pays at most a cap for a column, which is more than any exchange of columns in its block could cost. So a row
    that cannot get its k columns ends short (`deficit`): either it lacks arcs, or other rows need its columns more. The
    bound on the gap then holds for what was shipped. Ties follow the order in which `topk` returns equal values, which
    may differ between devices. Within the gap, the objective does not depend on it.

    The host reads two numbers at the start and one flag every `check_every` rounds. Each settlement of price wars reads
    one flag for every 16 hops of its shortest paths, and so does the search for the final prices. `iterations` counts
    rounds. Raises InputError for an option out of range, and for NaN or -inf in the cost.
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
    price = lowest_prices(problem, owner)  # the market's prices are off by eps per bid
    return ArcSolution(problem, owner, price, iterations=rounds, converged=sold_out)


class _Market:
    """Owner and price of every column. Padding arcs lead to an extra last column that no row can afford."""

    def __init__(self, problem: ArcProblem, tol: float):
        m, nowhere = len(problem), problem.num_columns
        is_arc = problem.cost.isfinite()
        self.cost = torch.nn.functional.pad(problem.cost, (0, 1), value=torch.inf)  # (m, s + 1)
        self.column = torch.nn.functional.pad(problem.column.where(is_arc, nowhere), (0, 1), value=nowhere)
        self.k = problem.k[:, None]
        self.row = torch.arange(m, device=self.k.device)[:, None]
        self.most = min(_largest_k(problem), problem.cost.shape[1])  # most columns that a row can get
        self.cap, self.eps = _cap_and_eps(problem, tol)
        self.price = self.cost.new_zeros(nowhere + 1)
        self.owner = self.k.new_full((nowhere + 1,), -1)

    @property
    def held(self) -> Bool[Tensor, "m arcs"]:
        """Mask of the arcs whose column the row holds."""
        return self.owner[self.column] == self.row

    @property
    def total(self) -> Float[Tensor, "m arcs"]:
        """Total cost of each arc's column to the row: cost plus price."""
        return self.cost + self.price[self.column]

    def bid(self) -> Bool[Tensor, "m most"]:
        """Run one round: all short rows bid at once, and the highest bid for a column wins.

        Returns a mask of the bids that each row makes for its `most` best columns.
        """
        total = self.total.masked_fill(self.held, -torch.inf)  # held columns come first
        total, arc = total.topk(self.most + 1, dim=1, largest=False)
        next_best = total.gather(1, self.k.clamp(max=self.most)).minimum(self.cap)
        total, arc = total[:, :-1], arc[:, :-1]
        rank = torch.arange(self.most, device=arc.device)
        wants = (rank < self.k) & (total < self.cap)
        bids = wants & (wants & (total > -torch.inf)).any(dim=1, keepdim=True)  # a short row bids for what it holds too
        bid = (next_best + self.eps - self.cost.gather(1, arc)).masked_fill(~bids, -torch.inf)
        winner, highest = highest_offers(bid, self.column.gather(1, arc), len(self.owner))
        self.owner = winner.where(winner >= 0, self.owner)
        self.price = highest.where(winner >= 0, self.price)
        return bids

    def settle(self) -> None:
        """Raise the prices of the columns that each row holds as far as eps-CS allows.

        `worst` is the total cost of the dearest column that row i holds. The row could pay rise_i more if each column
        that it does not hold cost it at least worst + rise_i - eps. A column that row l holds rises by rise_l, and a
        free column keeps its price (rise_l = 0). So rise_i is the minimum of total - worst + eps + rise_l over these
        columns. Bellman-Ford finds it by lowering upper bounds.
        """
        total, held, owner = self.total, self.held, self.owner[self.column]
        worst = total.masked_fill(~held, -torch.inf).amax(dim=1, keepdim=True)  # -inf if it holds none: rise inf
        step = (total - worst + self.eps).clamp(min=0).masked_fill(held, torch.inf)
        rise = (self.cap - worst).clamp(min=0).squeeze(1)
        found = False
        while not found:
            for _ in range(HOPS):
                before, through = rise, torch.nn.functional.pad(rise, (0, 1))[owner]  # [-1] is 0: a free column
                rise = rise.minimum((step + through).amin(dim=1))
            found = bool((rise == before).all())
        self.price = self.price + rise[self.owner].where(self.owner >= 0, 0.0)


def _largest_k(problem: ArcProblem) -> int:
    """The largest k. Raises InputError for NaN or -inf in the cost. The host reads both in one transfer."""
    if len(problem) == 0:
        return 0
    bad = (problem.cost.isnan() | problem.cost.isneginf()).any(dim=1)
    most, broken = torch.stack((problem.k.max(), bad.any().long())).tolist()
    if broken:
        raise InputError(f"cost is NaN or -inf in row {int(bad.nonzero()[0])}; it takes finite numbers or +inf")
    return most


def _cap_and_eps(problem: ArcProblem, tol: float) -> tuple[Float[Tensor, "m 1"], Float[Tensor, "m 1"]]:
    """Cap on a row's total cost for a column, and eps, the smallest raise of a bid; both depend on the row's block."""
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
