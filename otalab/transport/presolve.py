"""From a transport problem with a slack supplier to arcs, and back.

A supplier with an open route to every column is a slack: give it every column, and a row i that takes column j over
pays d_ij = c_ij - c_slack,j more. That leaves semi-assignment (see `arcs`), and of it only each row's cheapest arcs:
a row whose price u_i does not exceed the cost of the arcs that were left out would never use one. So few are tried
first, and where the prices do not prove that they suffice, more. The answer is exact whatever the costs are.
"""

from collections.abc import Callable
from functools import cached_property, wraps

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab.errors import InputError
from otalab.transport.arcs import ArcProblem, ArcSolution
from otalab.transport.compiled import compiled, use_numba
from otalab.transport.problem import INFEASIBLE, TransportProblem
from otalab.transport.solution import TransportSolution, c_transform

STRETCH = 16  # columns whose least cost is looked at first


def by_arcs(solver: Callable[..., ArcSolution]) -> Callable[..., TransportSolution]:
    """A method for `solve` from a solver of arcs: all problems of a batch in one call, float64 plans.

    The method takes whole supplies and demands and needs one supplier, preferably the last, that may serve every
    column. It raises InputError if a supply or demand is not whole, if there is no such supplier, or if forbidden
    routes leave no feasible plan.
    """

    @wraps(solver)
    def method(problem: TransportProblem, **options) -> TransportSolution:
        cost, supply, demand = (
            (p if problem.batched else p[None]) for p in (problem.cost, problem.supply, problem.demand)
        )
        require_whole(supply, demand)
        slack = slack_rows(cost, demand)
        copies, real = column_copies(demand)
        found = solve_over_slack(cost, supply, slack, copies, real, solver, options)
        if (found.deficit > 0).any():
            raise InputError(INFEASIBLE)
        owner = found.owner.view(copies.shape)
        row = torch.where(owner >= 0, owner % cost.shape[1], slack[:, None])
        plan = torch.zeros_like(cost, dtype=torch.float64)
        units = torch.ones_like(row, dtype=plan.dtype) if real is None else real.to(plan)
        plan.view(len(cost), -1).scatter_add_(1, row * cost.shape[2] + copies, units)
        f = found.price.view(cost.shape[:2]).scatter(1, slack[:, None], 0.0)  # its own price: costs are over it
        g = c_transform(cost.double(), f)
        converged = torch.ones(len(cost), dtype=torch.bool, device=cost.device)
        parts = [part if problem.batched else part[0] for part in (plan, f, g, converged)]
        return TransportSolution(problem, *parts, iterations=found.iterations)

    return method


def solve_over_slack(
    cost: Float[Tensor, "B m n"],
    supply: Float[Tensor, "B m"],
    slack: Int[Tensor, " B"],
    copies: Int[Tensor, "B w"],
    real: Bool[Tensor, "B w"] | None,
    solver: Callable[..., ArcSolution],
    options: dict,
) -> ArcSolution:
    """The exact optimum without the slack supplier, whose row stays as one that wants nothing."""
    blocks, m, n = cost.shape
    each = torch.arange(blocks, device=cost.device)
    row = each.repeat_interleave(m, output_size=blocks * m)  # its block
    k = supply.long().index_put((each, slack), torch.zeros_like(slack)).flatten()
    width = n if real is None else real.shape[1]
    count = (2 * k + 8).clamp(max=width)
    routes = Routes(cost, slack, copies, real)
    scan = real is None and cost.device.type == "cpu" and use_numba(options.get("compiled"))
    while True:
        over, column, beyond = routes.scanned(count) if scan else routes.sorted(int(count.max()))
        found = solver(ArcProblem(over, column + (row * width)[:, None], k, row, width, blocks), **options)
        enough = (found.price <= beyond) & (found.deficit == 0) | (count == width)
        if bool(enough.all()):
            return found
        count = count.where(enough, 4 * count).clamp(max=width)


class Routes:
    """What each row pays over the slack, (B * m, width), of which only the cheapest are listed.

    Either way returns what they cost in float64, to which column they lead, and for each row what those left out cost
    at least. Which of equally dear ones are listed may differ.
    """

    def __init__(
        self,
        cost: Float[Tensor, "B m n"],
        slack: Int[Tensor, " B"],
        copies: Int[Tensor, "B w"],
        real: Bool[Tensor, "B w"] | None,
    ):
        self.cost, self.slack, self.copies, self.real = cost, slack, copies, real
        self.each = torch.arange(len(cost), device=cost.device)
        self.known: tuple[Tensor, Tensor, Tensor] | None = None  # counts, and what `scanned` found

    @cached_property
    def over(self) -> Float[Tensor, "B m w"]:
        """All of them, in the dtype of the cost."""
        over = self.cost - self.cost[self.each, self.slack][:, None]
        over[self.each, self.slack] = torch.inf
        if self.real is None:
            return over
        over = over.gather(2, self.copies[:, None].expand(-1, over.shape[1], -1))
        return over.masked_fill(~self.real[:, None], torch.inf)

    def sorted(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The `count` cheapest of each row, by torch, on the device."""
        blocks, m, width = self.over.shape
        values, column = cheapest(self.over.view(blocks * m, width), count)
        if self.cost.dtype == torch.float64:
            return values, column, last(values)
        # their difference was rounded, which orders well and adds badly: subtract again
        place = self.copies.gather(1, column.view(blocks, -1))  # (B, m * count)
        slack_cost = self.cost[self.each, self.slack].gather(1, place).double()
        exact = self.cost.gather(2, place.view(blocks, m, -1)).double() - slack_cost.view(blocks, m, -1)
        return exact.view_as(values).where(values.isfinite(), torch.inf), column, below(last(values))

    def scanned(self, count: Int[Tensor, " rows"]) -> tuple[Tensor, Tensor, Tensor]:
        """The count_i cheapest of row i, by numba, on the CPU, in one pass that makes no other matrix."""
        blocks, m, _ = self.cost.shape
        values = self.cost.new_full((blocks * m, int(count.max())), torch.inf, dtype=torch.float64)
        column = torch.zeros_like(values, dtype=torch.int64)
        again = count
        if self.known is not None:  # rows whose count is what it was need not be read again
            again = count.where(count != self.known[0], 0)
            for new, old in ((values, self.known[1]), (column, self.known[2])):
                new[:, : old.shape[1]] = old.where((again == 0)[:, None], new[:, : old.shape[1]])
        arrays = [x.numpy() for x in (self.cost, self.slack, again.view(blocks, m))]
        compiled(keep_cheapest)(*arrays, values.view(blocks, m, -1).numpy(), column.view(blocks, m, -1).numpy())
        self.known = count, values, column
        worst = values.gather(1, (count[:, None] - 1).clamp(min=0)).squeeze(1)
        return values, column, worst if self.cost.dtype == torch.float64 else below(worst.float())


def last(values: Float[Tensor, "r s"]) -> Float[Tensor, " r"]:
    """The last of each row's values, ascending."""
    return values[:, -1] if values.shape[1] else values.new_zeros(len(values))


def below(values: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
    """At most what was rounded to these float32 numbers."""
    return values.nextafter(values.new_tensor(-torch.inf)).double()


def keep_cheapest(cost, slack, count, values, column):
    """Fill `values` and `column` with the count_bi cheapest routes of each row, ascending; to be compiled.

    A row is read in short stretches, and one whose least cost is not among the cheapest so far is passed over.
    """
    for b in range(cost.shape[0]):
        base = cost[b, slack[b]]
        for i in range(cost.shape[1]):
            row, best, where = cost[b, i], values[b, i], column[b, i]
            held, wanted, worst = 0, count[b, i], np.inf
            if i == slack[b] or wanted == 0:
                continue
            for start in range(0, len(row), STRETCH):
                stop = start + STRETCH
                if stop <= len(row):
                    least = row[start] - base[start]
                    for j in range(start, start + STRETCH):
                        least = min(least, row[j] - base[j])
                    if least >= worst:
                        continue
                for j in range(start, min(stop, len(row))):
                    over = np.float64(row[j]) - np.float64(base[j])
                    if over < worst:
                        held = min(held + 1, wanted)
                        at = held - 1
                        while at > 0 and best[at - 1] > over:
                            best[at], where[at] = best[at - 1], where[at - 1]
                            at -= 1
                        best[at], where[at] = over, j
                        if held == wanted:
                            worst = best[wanted - 1]


def cheapest(
    cost: Float[Tensor, "r n"], count: int, block: int = 16
) -> tuple[Float[Tensor, "r s"], Int[Tensor, "r s"]]:
    """The `count` smallest entries of each row, ascending, and their columns.

    They lie in the `count` blocks of least minimum, so that most of a long row is read once and not sorted.
    """
    num_blocks = cost.shape[1] // block
    if num_blocks <= 2 * count:
        return cost.topk(count, dim=1, largest=False)
    even = num_blocks * block
    least = cost[:, :even].view(-1, block, num_blocks).amin(dim=1)  # block b holds columns b, b + num_blocks, ...
    chosen = least.topk(count, dim=1, largest=False, sorted=False).indices
    step = num_blocks * torch.arange(block, device=cost.device)
    columns = (chosen[:, None] + step[:, None]).flatten(1)
    rest = torch.arange(even, cost.shape[1], device=cost.device).expand(len(cost), -1)
    columns = torch.cat((columns, rest), dim=1)
    values, order = cost.gather(1, columns).topk(count, dim=1, largest=False)
    return values, columns.gather(1, order)


def require_whole(supply: Float[Tensor, "B m"], demand: Float[Tensor, "B n"]) -> None:
    """Raise InputError unless all units are whole and sums are equal."""
    for name, units in (("supply", supply), ("demand", demand)):
        broken = (units != units.round()).nonzero()
        if len(broken):
            first = f"{name}[{int(broken[0, 1])}] is {units[tuple(broken[0])].item():g}"
            raise InputError(f"assignment needs whole units, but {first}; use emd or linprog")
    uneven = (supply.double().sum(dim=1) != demand.double().sum(dim=1)).nonzero()
    if len(uneven):
        at = int(uneven[0])
        sums = f"supply sums to {supply[at].sum():.0f} and demand to {demand[at].sum():.0f}"
        raise InputError(f"assignment needs equal sums, but {sums}")


def slack_rows(cost: Float[Tensor, "B m n"], demand: Float[Tensor, "B n"]) -> Int[Tensor, " B"]:
    """The last row of each problem if it may serve every column with demand, else the last row that may."""
    last = torch.full((len(cost),), cost.shape[1] - 1, device=cost.device)
    if bool((cost[:, -1].isfinite() | (demand == 0)).all()):
        return last
    may = (cost.isfinite() | (demand == 0)[:, None]).all(dim=2)  # (B, m)
    shut = (~may.any(dim=1)).nonzero()
    if len(shut):
        where = torch.argwhere(cost[int(shut[0]), -1].isinf())[0]
        raise InputError(
            f"assignment needs a row that may serve every column, but each has a forbidden route: "
            f"cost[-1, {int(where)}] is inf; use emd or linprog"
        )
    return last - may.flip(1).int().argmax(dim=1)


def column_copies(demand: Float[Tensor, "B n"]) -> tuple[Int[Tensor, "B w"], Bool[Tensor, "B w"] | None]:
    """A column for each unit of demand: which it copies; and whether it is one, or pads a shorter problem.

    None instead of the latter if each column wants one unit: then nothing is copied.
    """
    index = torch.arange(demand.shape[1], device=demand.device)
    if bool((demand == 1).all()):
        return index.expand(demand.shape), None
    units = [index.repeat_interleave(wanted) for wanted in demand.long()]
    copies = torch.nn.utils.rnn.pad_sequence(units, batch_first=True)
    return copies, torch.arange(copies.shape[1], device=demand.device) < demand.sum(dim=1)[:, None]
