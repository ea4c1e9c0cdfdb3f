"""Exact solvers on the CPU: a linear program, the network simplex, and the assignment problem behind OTA.

Whatever the problem's dtype, all solvers work in float64 and return float64 on the problem's device. An optimum
rounded to float32 could not be certified to 1e-9. A batch goes to the CPU once, and its problems are solved in turn.
"""

from collections.abc import Callable

import numpy as np
import ot
import scipy.optimize
import scipy.sparse
import torch
from jaxtyping import Float

from otalab.checks import require
from otalab.errors import InputError
from otalab.transport.problem import INFEASIBLE, TransportProblem, check_copies, require_whole
from otalab.transport.solution import TransportSolution

Matrix = Float[np.ndarray, "m n"]
Rows = Float[np.ndarray, " m"]
Columns = Float[np.ndarray, " n"]
LARGEST = 2.0**60
Found = tuple[Matrix, Rows, Columns, bool, int | None]  # plan, f, g, converged, iterations
SolveOne = Callable[[Matrix, Rows, Columns], Found]


def linprog(problem: TransportProblem) -> TransportSolution:
    """Solve the linear program itself by HiGHS; f and g are the multipliers of the row and column sums.

    There is one variable for each open route. HiGHS runs its interior-point method, then crosses over to a vertex;
    that is four times faster than its dual simplex on 21 x 8000. This solver is the slowest, and the reference for
    the others. Raises InputError if forbidden routes leave no feasible plan, and if the scales of the costs are so far
    apart that HiGHS gives up.
    """
    return _solve_each(problem, _in_units(_linprog))


def emd(problem: TransportProblem, *, max_iter: int = 1_000_000) -> TransportSolution:
    """Solve by POT's network simplex, `ot.emd`; f and g are its duals.

    `max_iter` limits the number of pivots; POT warns if that is too few. Raises InputError if forbidden routes leave no
    feasible plan.
    """
    require("be a whole number of at least 1", max_iter=max_iter)
    return _solve_each(problem, _in_units(lambda cost, supply, demand: _emd(cost, supply, demand, max_iter)))


def assignment(problem: TransportProblem) -> TransportSolution:
    """Solve whole supplies and demands as a rectangular assignment, by `scipy.optimize.linear_sum_assignment`.

    The last row takes what is left, as OTA's background does. If it first gets every column, a row i that takes over
    column j pays cost_ij - cost_last,j more. So each other row is repeated supply_i times, each column demand_j times,
    and both are matched at that cost. Exact, and fastest if the last row supplies most. f and g are the plan's
    own `prices`.

    Raises InputError if a supply or demand is not whole, if the last row has a forbidden route to a column with
    demand, if there are more units than such a table can hold, or if forbidden routes leave no feasible plan.
    """
    require_whole(problem)
    return _solve_each(problem, _assignment)


def _linprog(cost: Matrix, supply: Rows, demand: Columns) -> Found:
    m, n = cost.shape
    is_open = np.isfinite(cost).ravel()
    row_sums = scipy.sparse.kron(scipy.sparse.eye_array(m), np.ones((1, n)))
    col_sums = scipy.sparse.kron(np.ones((1, m)), scipy.sparse.eye_array(n))
    sums = scipy.sparse.vstack([row_sums, col_sums]).tocsc()[:, is_open]
    units = np.concatenate([supply, demand])
    # HiGHS's presolve takes as long as its solver and finds nothing. The solver ends within 100 steps, or never.
    options = {"presolve": False, "maxiter": 1000}
    result = scipy.optimize.linprog(cost.ravel()[is_open], A_eq=sums, b_eq=units, method="highs-ipm", options=options)
    if result.status == 2:  # "infeasible": HiGHS may be wrong if costs differ much in scale
        _emd(np.where(np.isfinite(cost), 0.0, np.inf), supply, demand, 1_000_000)  # raises if there is no feasible plan
    if result.status == 2 or result.x is None or result.eqlin.marginals is None:
        sizes = np.abs(cost[np.isfinite(cost) & (cost != 0)])
        scale = f"costs from {sizes.min(initial=np.inf):.2g} to {sizes.max(initial=0.0):.2g}, over the largest"
        raise InputError(f"linprog gives no answer: HiGHS met {scale}: {' '.join(result.message.split())}")
    plan = np.zeros(m * n)
    plan[is_open] = result.x.clip(min=0)  # rounding leaves entries like -1e-17
    if (units == units.round()).all():  # whole units have whole vertices
        plan = np.where(np.abs(plan - plan.round()) < 1e-6, plan.round(), plan)
    f, g = np.split(result.eqlin.marginals, [m])
    return plan.reshape(m, n), f, g, result.status == 0, int(result.nit)


def _emd(cost: Matrix, supply: Rows, demand: Columns, max_iter: int) -> Found:
    is_open = np.isfinite(cost)
    most, least = cost.max(where=is_open, initial=-np.inf), cost.min(where=is_open, initial=np.inf)
    # On a path of the optimal tree f_i + g_j is k costs less k - 1 others, k <= min(m, n). No dearer route is used.
    dear = (min(cost.shape) + 1) * (most - least) + 1
    priced = np.where(is_open, cost - least, dear)  # POT calls some feasible problems with negative costs infeasible
    plan, log = ot.emd(supply, demand, priced, numItermax=max_iter, log=True)
    converged = log["result_code"] == 1
    if converged and (plan[~is_open] > 1e-9 * demand.max()).any():
        raise InputError(INFEASIBLE)
    plan[~is_open] = 0
    return plan, log["u"] + least, log["v"], converged, None


def _assignment(cost: Matrix, supply: Rows, demand: Columns) -> Found:
    shut = np.flatnonzero((demand > 0) & np.isinf(cost[-1]))
    if len(shut):
        raise InputError(f"assignment needs the last row open, but cost[-1, {shut[0]}] is inf; use emd or linprog")
    check_copies(supply[:-1].sum(), demand.sum())
    rows = np.repeat(np.arange(len(supply) - 1), supply[:-1].astype(int))  # one copy of a row for each unit
    columns = np.repeat(np.arange(len(demand)), demand.astype(int))
    owner = np.full(len(columns), len(supply) - 1)  # the last row keeps what no other row takes over
    try:
        copies, taken = scipy.optimize.linear_sum_assignment((cost[:-1, columns] - cost[-1, columns])[rows])
    except ValueError as error:  # raised by SciPy if the finite entries hold no matching of all rows
        raise InputError(INFEASIBLE) from error
    owner[taken] = rows[copies]
    plan = np.zeros_like(cost)
    np.add.at(plan, (owner, columns), 1)
    return plan, *prices(cost, plan), True, None


def prices(cost: Matrix, plan: Matrix) -> tuple[Rows, Columns]:
    """Potentials f and g, g_j = min_i (cost_ij - f_i), that prove an optimal plan optimal.

    By complementary slackness, f_i + g_j = cost_ij where row i ships to column j, and <= elsewhere. So f_k - f_i <=
    cost_kj - cost_ij for every column j that i serves. These are the inequalities of shortest paths over the m rows:
    the edge from i to k is the least such difference, the cost of passing one unit from i to k. Bellman-Ford solves
    them. A negative cycle would give a cheaper plan. An optimal plan has none, and any other plan gets a looser bound.
    """
    passing = np.full((len(cost), len(cost)), np.inf)  # [i, k]
    for i in range(len(cost)):
        served = (plan[i] > 0) & np.isfinite(cost[i])
        passing[i] = (cost[:, served] - cost[i, served]).min(axis=1, initial=np.inf)
    f = np.zeros(len(cost))
    for _ in range(len(cost)):
        f = np.minimum(f, (f[:, None] + passing).min(axis=0))
    return f, (cost - f[:, None]).min(axis=0)


def _solve_each(problem: TransportProblem, solve_one: SolveOne) -> TransportSolution:
    """Solve the problems of a batch in turn, in NumPy. A problem without units gets the empty plan."""
    parts = [part.to("cpu", torch.float64).numpy() for part in problem.as_batch()]
    found = []
    for number, (cost, supply, demand) in enumerate(zip(*parts, strict=True)):
        if supply.sum() == 0:
            found.append((np.zeros_like(cost), np.zeros_like(supply), np.zeros_like(demand), True, None))
            continue
        try:
            found.append(solve_one(cost, supply, demand))
        except InputError as error:
            raise InputError(f"problem {number}: {error}") if problem.batched else error from None
    *parts, iterations = zip(*found, strict=True)
    plan, f, g, converged = (torch.from_numpy(np.stack(part)).to(problem.cost.device) for part in parts)
    most = max((count for count in iterations if count is not None), default=None)
    return TransportSolution.of_batch(problem, plan=plan, f=f, g=g, converged=converged, iterations=most)


def _in_units(solve_one: SolveOne) -> SolveOne:
    """Wrap a solver: make the sums equal, and scale small costs and goods up to order one.

    The scaling is needed because the solvers' tolerances are absolute. Costs and goods beyond 2^60 are scaled down to
    about 2^60, because HiGHS treats 1e20 as infinite. The units are powers of two, so that scaling rounds nothing and
    ties stay ties.
    """

    def scaled(cost: Matrix, supply: Rows, demand: Columns) -> Found:
        price = _unit(np.abs(cost).max(where=np.isfinite(cost), initial=0.0))
        goods = _unit(demand.max())
        demand = demand * (supply.sum() / demand.sum())
        plan, f, g, *rest = solve_one(cost / price, supply / goods, demand / goods)
        plan[supply == 0], plan[:, demand == 0] = 0.0, 0.0  # remove tiny entries that the solver may have left
        return plan * goods, f * price, g * price, *rest

    return scaled


def _unit(size: float) -> float:
    if size == 0 or 1 <= size <= LARGEST:
        return 1.0
    return 2.0 ** np.floor(np.log2(size)) / (LARGEST if size > LARGEST else 1.0)
