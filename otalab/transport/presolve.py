"""From a transport problem with a slack supplier to arcs, and back.

A supplier with an open route to every column is a slack: give it every column, and a row i that takes column j over
pays d_ij = c_ij - c_slack,j more. That leaves semi-assignment (see `arcs`), and of it only each row's cheapest arcs:
a row whose price u_i does not exceed the cost of the arcs that were left out would never use one. So few are tried
first, and where the prices do not prove that they suffice, more. The answer is exact whatever the costs are.
"""

from collections.abc import Callable
from functools import wraps

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab.errors import InputError
from otalab.transport.arcs import ArcProblem, ArcSolution
from otalab.transport.problem import INFEASIBLE, TransportProblem
from otalab.transport.solution import TransportSolution, c_transform


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
    blocks, m, _ = cost.shape
    each = torch.arange(blocks, device=cost.device)
    over = cost - cost[each, slack][:, None]
    over[each, slack] = torch.inf
    if real is not None:
        over = over.gather(2, copies[:, None].expand(-1, m, -1)).masked_fill(~real[:, None], torch.inf)
    width = over.shape[2]
    k = supply.long().index_put((each, slack), torch.zeros_like(slack)).flatten()
    count = min(width, 2 * int(k.max()) + 8)
    while True:
        values, column = cheapest(over.view(blocks * m, width), count)
        row = torch.arange(blocks * m, device=cost.device)
        exact = values.double()
        if cost.dtype != torch.float64:  # their difference was rounded, which orders well and adds badly
            place = copies.gather(1, column.view(blocks, -1)).view(blocks, m, -1)
            exact = cost.double().gather(2, place) - cost[each, slack].double().gather(1, place.flatten(1)).view_as(
                place
            )
            exact = exact.view_as(values).where(values.isfinite(), torch.inf)
        arcs = ArcProblem(exact, column + (row // m * width)[:, None], k, row // m, width, blocks)
        found = solver(arcs, **options)
        if count == width:
            return found
        beyond = values[:, -1]  # what was left out costs at least this much
        if cost.dtype != torch.float64:  # or, before rounding, at least the number below
            beyond = beyond.nextafter(beyond.new_tensor(-torch.inf))
        if bool(((found.price <= beyond) & (found.deficit == 0)).all()):
            return found
        count = min(width, 4 * count)


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
