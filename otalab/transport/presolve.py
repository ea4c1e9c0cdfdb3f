"""Reduce a transport problem with a slack supplier to arcs, and map the answer back.

A supplier with an open route to every column is a slack. If it first gets every column, a row i that takes over column
j pays d_ij = c_ij - c_slack,j more. What remains is semi-assignment (see `arcs`), and only each row's cheapest arcs
matter: a row whose price u_i is at most the cost of the arcs left out would never use one of those. So a few arcs are
tried first. If the prices do not prove that these suffice, more are added. The answer is exact whatever the costs are.
"""

import inspect
from collections.abc import Callable
from functools import wraps

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab.errors import InputError
from otalab.transport.arcs import ArcProblem, ArcSolution
from otalab.transport.problem import INFEASIBLE, TransportProblem, check_copies, first_index, require_whole
from otalab.transport.solution import TransportSolution, c_transform


def by_arcs(solver: Callable[..., ArcSolution]) -> Callable[..., TransportSolution]:
    """Turn a solver of arcs into a method for `solve` with the same options. Its plans are float64."""

    @wraps(solver, assigned=("__module__", "__name__", "__qualname__"))
    def method(problem, **options):
        """Find the exact optimum of whole supplies and demands, where one supplier may serve every column.

        `presolve` takes out this supplier, preferably the last, and the solver of arcs of this name, whose options
        these are, solves what is left. All problems of a batch go in one call. Raises InputError if a supply or demand
        is not whole, if there is no such supplier, if there are too many units for a column each, and if forbidden
        routes leave no feasible plan.
        """
        require_whole(problem)
        cost, supply, demand = problem.as_batch()
        slack = slack_rows(cost, demand)
        check_copies(supply.numel(), demand.sum(1).max().item())
        copies, real = column_copies(demand)
        found = solve_over_slack(cost, supply, slack, copies, real, solver, options)
        if found.converged and (found.deficit > 0).any():
            raise InputError(INFEASIBLE)
        row = rows_of_owners(found, slack)
        plan = torch.zeros_like(cost, dtype=torch.float64)
        units = torch.ones_like(row, dtype=plan.dtype) if real is None else real.to(plan)
        plan.view(len(cost), -1).scatter_add_(1, row * cost.shape[2] + copies, units)
        f = found.price.view(cost.shape[:2])  # relative to the slack's, which has no arc and the price 0
        return TransportSolution.of_batch(
            problem,
            plan=plan,
            f=f,
            g=c_transform(cost.double(), f),
            converged=torch.full((len(cost),), found.converged, device=cost.device),
            iterations=found.iterations,
        )

    first, *options = inspect.signature(solver).parameters.values()
    parameters = [first.replace(annotation=TransportProblem), *options]
    method.__signature__ = inspect.Signature(parameters, return_annotation=TransportSolution)
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
    """Find the exact optimum over arcs without the slack supplier, whose row stays but wants nothing."""
    blocks, m, _ = cost.shape
    each = torch.arange(blocks, device=cost.device)
    over = cost.double() - cost[each, slack].double()[:, None]
    over[each, slack] = torch.inf
    if real is not None:
        over = over.gather(2, copies[:, None].expand(-1, m, -1)).masked_fill_(~real[:, None], torch.inf)
    width = over.shape[2]
    over = over.view(blocks * m, width)
    block = each.repeat_interleave(m, output_size=blocks * m)
    k = supply.long().index_put((each, slack), torch.zeros_like(slack)).flatten()
    count = min(int(k.max()) + 8, width)
    while True:
        cheapest, column = over.topk(count, dim=1, largest=False)
        found = solver(ArcProblem(cheapest, column + (block * width)[:, None], k, block, width, blocks), **options)
        if count == width or not found.converged:
            return found
        if bool(((found.price <= cheapest[:, -1]) & (found.deficit == 0)).all()):
            return found
        count = min(4 * count, width)


def rows_of_owners(found: ArcSolution, slack: Int[Tensor, " B"]) -> Int[Tensor, "B w"]:
    """The row, numbered within its problem, that serves each column in the answer of `solve_over_slack`."""
    owner = found.owner.view(len(slack), -1)
    first = torch.arange(len(slack), device=slack.device) * (len(found.price) // len(slack))
    return torch.where(owner >= 0, owner - first[:, None], slack[:, None])


def slack_rows(cost: Float[Tensor, "B m n"], demand: Float[Tensor, "B n"]) -> Int[Tensor, " B"]:
    """The slack of each problem: the last row that may serve every column with demand.

    Raises InputError if a problem has no such row.
    """
    rows = torch.arange(cost.shape[1], device=cost.device)
    if bool((cost[:, -1].isfinite() | (demand == 0)).all()):  # most problems, and much faster than the search
        return rows[-1:].expand(len(cost))
    may = (cost.isfinite() | (demand == 0)[:, None]).all(dim=2)  # (B, m)
    slack = rows.where(may, -1).amax(dim=1)
    if bool((slack < 0).any()):
        (at,) = first_index(slack < 0)
        (column,) = first_index(cost[at, -1].isinf() & (demand[at] > 0))
        raise InputError(
            f"no row may serve every column; the last may not serve column {column} (cost +inf); use emd or linprog"
        )
    return slack


def column_copies(demand: Float[Tensor, "B n"]) -> tuple[Int[Tensor, "B w"], Bool[Tensor, "B w"] | None]:
    """Make one column for each unit of demand: the column that each copies, and whether it is real.

    A column that is not real pads a problem with fewer units. The second value is None if each column wants one unit,
    because then nothing is copied.
    """
    index = torch.arange(demand.shape[1], device=demand.device)
    if bool((demand == 1).all()):
        return index.expand(demand.shape), None
    units = [index.repeat_interleave(wanted) for wanted in demand.long()]
    copies = torch.nn.utils.rnn.pad_sequence(units, batch_first=True)
    return copies, torch.arange(copies.shape[1], device=demand.device) < demand.sum(dim=1)[:, None]
