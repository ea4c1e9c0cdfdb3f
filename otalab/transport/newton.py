"""Entropic transport by Newton's method in the few unknowns it has: one potential per supplier."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from otalab.transport.problem import TransportProblem
from otalab.transport.sinkhorn import check_eps, check_options
from otalab.transport.solution import TransportSolution

RIDGE = 1e-12  # of a row's supply, on the Hessian's diagonal: above the rounding of its sums, below all that matters
NEAR = 6.0  # a step shorter than this, in units of eps, has nearly arrived: time for a smaller eps
SHARPER = 3.0  # by how much eps is then divided


@torch.no_grad()
def newton(problem: TransportProblem, *, eps: float = 0.1, tol: float = 1e-9, max_iter: int = 50) -> TransportSolution:
    """Entropic transport, `sinkhorn`'s problem, by damped Newton steps on its semi-dual. Float64, batched.

    Given f, the columns are right for P_ij = demand_j * softmax_i((f_i - cost_ij) / eps), which leaves the concave

        maximise  sum_i supply_i f_i - eps sum_j demand_j log sum_i exp((f_i - cost_ij) / eps)

    (Cuturi and Peyre, 2018, "Semidual regularized optimal transport"). Its gradient is supply - row sums, its Hessian
    -(diag(row sums) - P diag(1 / demand) P^T) / eps: the Laplacian of a graph of m rows, kept free of cancellation.

        eps       regularisation in units of cost, as `sinkhorn`'s
        tol       stop when |row sum - supply| <= tol * supply in every row: relative to the row's own supply. Warns
                  if not met. 0 runs all steps and makes no claim
        max_iter  Newton steps in total. Images take 6 to 14. Dense costs of up to 30 take 40 where eps is 1e-3

    After every step the columns are exact, to rounding, and the rows are not: the reverse of `sinkhorn`.
    `trace[..., k]` is the largest relative row error after k + 1 steps. Supplies whose sum differs from the demand's
    by rounding are scaled to it. f and g are -inf where a row or column has no units.

    eps starts at a quarter of the mean cost and is divided by 3, in each problem on its own, whenever a step is short.
    Far from the solution a row's step d > 1, in units of eps, becomes 1 + log d. If that does not shorten the steps,
    the whole step is scaled by (1 + log R) / R, R > 1 its range, which is sure to ascend: along it, the third
    derivative of log sum exp is at most R times the second (Sun and Tran-Dinh, 2019, "Generalized self-concordant
    functions"). The potential of a row that must take all it can reach is infinite: its error falls by a factor of e
    per step.

    Columns that a single row may serve are its own, and only the others enter the loop. The host reads one number
    before the loop and one flag per step. Forbidden routes that leave no feasible plan end as missed tolerance, with
    finite figures.
    """
    check_options(eps=eps, max_iter=max_iter, tol=tol)
    check_eps(problem, eps, torch.float64)
    cost, supply, demand = (part.double() for part in problem.as_batch())
    goods = supply.sum(-1, keepdim=True)
    supply = supply * (demand.sum(-1, keepdim=True) / goods).masked_fill_(goods == 0, 1.0)

    is_open = (cost < torch.inf) & (supply > 0).unsqueeze(-1)  # (B, m, n)
    choice = (is_open.sum(1) > 1) & (demand > 0)  # (B, n)
    plan = torch.where(is_open & ~choice.unsqueeze(1), demand.unsqueeze(1), 0.0)
    count = int(choice.sum(1).max())
    place = choice.byte().argsort(dim=1, descending=True, stable=True)[:, :count]  # (B, c): first those with a choice,
    mine = choice.gather(1, place)  # then others that fill up a problem which has fewer
    routes = place.unsqueeze(1).expand(-1, cost.shape[1], -1)  # (B, m, c)
    chosen = cost.gather(2, routes).masked_fill_(~is_open.gather(2, routes), torch.inf)
    chosen.masked_fill_(~mine.unsqueeze(1), 0.0)
    wanted = demand.gather(1, place) * mine
    f, share, row_error, trace = _ascend(chosen, supply, supply - plan.sum(-1), wanted, eps, tol, max_iter)
    plan.scatter_add_(2, routes, share * wanted.unsqueeze(1))

    f = f.masked_fill(supply == 0, -torch.inf)
    most, row = plan.max(1, keepdim=True)  # P = exp((f + g - cost) / eps), of which the largest entry tells most
    g = (eps * most.log() + cost.gather(1, row)).squeeze(1) - f.gather(1, row.squeeze(1))
    return TransportSolution.of_batch(
        problem,
        plan=plan,
        f=f,
        g=g.masked_fill_(demand == 0, -torch.inf),
        converged=_within(row_error.squeeze(-1), tol, len(trace)),
        iterations=len(trace),
        trace=torch.cat(trace, -1) if trace else None,
    )


def _ascend(
    cost: Float[Tensor, "B m c"],
    supply: Float[Tensor, "B m"],
    left: Float[Tensor, "B m"],
    demand: Float[Tensor, "B c"],
    eps: float,
    tol: float,
    max_iter: int,
) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B m c"], Float[Tensor, "B 1"], list[Float[Tensor, "B 1"]]]:
    """Newton's steps from f = 0 to row sums `left`: f; plan / demand and row error at eps; all row errors."""
    cost = cost - cost.amin(1, keepdim=True)
    ridge = (RIDGE * supply).masked_fill_(supply == 0, 1.0)
    per_supply = supply.reciprocal().masked_fill_(supply == 0, 0.0)

    def at(f, eps):
        share = ((f.unsqueeze(-1) - cost) / eps.unsqueeze(-1)).softmax(1)
        weights = (share * demand.unsqueeze(1)) @ share.mT  # sum_j P_ij P_kj / demand_j; row i sums to sum_j P_ij
        missing = left - weights.sum(-1)
        return share, weights, missing, (missing * per_supply).abs_().amax(-1, keepdim=True)

    f = torch.zeros_like(supply)
    priced = (cost < torch.inf) & (demand > 0).unsqueeze(1)
    total = cost.where(priced, 0.0).sum((1, 2))
    current = (total / (4 * priced.sum((1, 2)).clamp_(min=1))).clamp_(min=eps).unsqueeze(-1)  # (B, 1)
    careful = torch.zeros_like(current, dtype=torch.bool)
    last_reach = torch.full_like(current, torch.inf)
    trace = []
    for iteration in range(max_iter + 1):
        share, weights, missing, row_error = at(f, current)
        if iteration:
            trace.append(row_error)
        done = (row_error <= tol) & (current <= eps)
        if bool(done.all()):
            return f, share, row_error, trace
        if iteration == max_iter:
            break
        step = _newton_step(weights, missing, ridge)
        least, most = step.aminmax(dim=-1, keepdim=True)
        reach = most - least
        careful = careful | (reach >= last_reach)
        size = torch.where(careful, reach, step.abs()).clamp_(min=1.0)
        f = torch.where(done, f, f.addcmul(current, step.mul_(size.log().add_(1.0).div_(size))))
        smaller = torch.where(reach < NEAR, (current / SHARPER).clamp_(min=eps), current)
        moved = smaller != current  # a new eps is a new problem, with a clean record
        careful, last_reach = careful.masked_fill_(moved, False), reach.masked_fill_(moved, torch.inf)
        current = smaller
    share, _, _, row_error = at(f, torch.full_like(current, eps))  # annealing may have been cut short
    return f, share, row_error, trace


def _newton_step(
    weights: Float[Tensor, "B m m"], missing: Float[Tensor, "B m"], ridge: Float[Tensor, "B m"]
) -> Float[Tensor, "B m"]:
    """Solve the graph Laplacian of the rows, weights sum_j P_ij P_kj / demand_j, for the step in units of eps.

    A diagonal that is the sum of the weights loses nothing to cancellation, as row sum - P_i^T P_i would when the
    plan is nearly whole. A constant added to the potentials of rows that share no column with others changes nothing:
    the ridge settles it, to a mean step of 0 weighted by supply, and makes the matrix diagonally dominant, which
    Cholesky needs.
    """
    laplacian = weights.neg()
    diagonal = laplacian.diagonal(dim1=-2, dim2=-1)
    diagonal.zero_()
    diagonal.copy_(ridge - laplacian.sum(-1))
    factor = torch.linalg.cholesky_ex(laplacian)[0]
    return torch.cholesky_solve(missing.unsqueeze(-1), factor).squeeze(-1).nan_to_num_(nan=0.0)


def _within(row_error: Float[Tensor, " B"], tol: float, iterations: int) -> Tensor:
    """row_error <= tol, with a warning if a tolerance was asked for and missed; all False if none was."""
    if tol == 0:
        return torch.zeros_like(row_error, dtype=torch.bool)
    met = row_error <= tol
    if not met.all():
        worst = f"row_error {row_error.max().item():.3g} of the supply"
        warnings.warn(f"newton, {iterations} iterations: {worst} is above tol {tol:g}", stacklevel=4)
    return met
