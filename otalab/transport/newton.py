"""Entropic transport by Newton's method, whose only unknowns are the potentials of the suppliers."""

import torch
from jaxtyping import Float
from torch import Tensor

from otalab.transport.problem import TransportProblem
from otalab.transport.sinkhorn import check_eps, check_options, within
from otalab.transport.solution import TransportSolution

RIDGE = 1e-12  # times a row's supply, added to the Hessian's diagonal: above rounding, below all that matters
NEAR = 6.0  # a step shorter than this, in units of eps, has nearly arrived: eps is then reduced
SHARPER = 3.0  # factor by which eps is reduced


@torch.no_grad()
def newton(problem: TransportProblem, *, eps: float = 0.1, tol: float = 1e-9, max_iter: int = 50) -> TransportSolution:
    """Solve `sinkhorn`'s entropic problem by damped Newton steps on its semi-dual. Float64, batched.

    For any f, P_ij = demand_j * softmax_i((f_i - cost_ij) / eps) has the right column sums. The best f solves the
    concave problem

        maximise  sum_i supply_i f_i - eps sum_j demand_j log sum_i exp((f_i - cost_ij) / eps)

    (Cuturi and Peyre, 2018, "Semidual regularized optimal transport"). Its gradient is supply - row sums. Its Hessian
    is -(diag(row sums) - P diag(1 / demand) P^T) / eps, the negative Laplacian of a graph of m rows over eps, which is
    computed without cancellation.

        eps       regularisation in units of cost, as in `sinkhorn`
        tol       stop when |row sum - supply| <= tol * supply in every row, relative to the row's own supply. Warns
                  if this is not met. With 0, all steps are run and `converged` is False
        max_iter  most Newton steps in total. Images take 6 to 14; dense costs of up to 30 take 40 if eps is 1e-3

    After every step the columns are exact, up to rounding, and the rows are not: the reverse of `sinkhorn`.
    `trace[..., k]` is the largest relative row error after k + 1 steps. If the sums of supply and demand differ by
    rounding, the supplies are scaled to fit. f and g are -inf where a row or column has no units.

    eps starts at a quarter of the mean cost above each column's least cost. Whenever a step is short, eps is divided by
    3, in each problem on its own. Far from the solution, a row's step of size d > 1, in units of eps, becomes
    1 + log d. If that does not shorten the steps, the whole step is scaled by (1 + log R) / R instead, where R > 1 is
    its range. Such a step always ascends: along it, the third derivative of log sum exp is at most R times the second
    (Sun and Tran-Dinh, 2019, "Generalized self-concordant functions"). A row that must take all that it can reach has
    an infinite potential; its error falls by a factor of e per step.

    A column that only one row may serve goes to that row; only the other columns enter the loop. The host reads one
    number before the loop and one flag per step. If forbidden routes leave no feasible plan, the tolerance is missed
    and all figures are finite. Raises InputError for an option out of range, and for an eps at which cost / eps or a
    potential may overflow.
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
    # (B, c): columns with a choice come first; others pad a problem that has fewer of them
    place = choice.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
    mine = choice.gather(1, place)
    routes = place.unsqueeze(1).expand(-1, cost.shape[1], -1)  # (B, m, c)
    chosen = cost.gather(2, routes).masked_fill_(~is_open.gather(2, routes), torch.inf)
    chosen.masked_fill_(~mine.unsqueeze(1), 0.0)
    wanted = demand.gather(1, place) * mine
    f, share, row_error, trace = _ascend(chosen, supply, supply - plan.sum(-1), wanted, eps, tol, max_iter)
    plan.scatter_add_(2, routes, share * wanted.unsqueeze(1))

    f = f.masked_fill(supply == 0, -torch.inf)
    most, row = plan.max(1, keepdim=True)  # g follows from the largest P = exp((f + g - cost) / eps) of a column
    g = (eps * most.log() + cost.gather(1, row)).squeeze(1) - f.gather(1, row.squeeze(1))
    return TransportSolution.of_batch(
        problem,
        plan=plan,
        f=f,
        g=g.masked_fill_(demand == 0, -torch.inf),
        converged=within(
            tol, f"newton, {len(trace)} iterations", {"row_error": row_error.squeeze(-1)}, " of the supply"
        ),
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
    """Run Newton's steps from f = 0 towards row sums `left`.

    Returns f, plan / demand at eps, the row error at eps, and a list of the row errors after each step.
    """
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
        moved = smaller != current  # a new eps makes a new problem: forget the old steps
        careful, last_reach = careful.masked_fill_(moved, False), reach.masked_fill_(moved, torch.inf)
        current = smaller
    share, _, _, row_error = at(f, torch.full_like(current, eps))  # max_iter may have ended the annealing early
    return f, share, row_error, trace


def _newton_step(
    weights: Float[Tensor, "B m m"], missing: Float[Tensor, "B m"], ridge: Float[Tensor, "B m"]
) -> Float[Tensor, "B m"]:
    """Solve the graph Laplacian of the rows, with weights sum_j P_ij P_kj / demand_j, for the step in units of eps.

    The diagonal is the sum of the weights, so it loses nothing to cancellation; row sum - P_i^T P_i would if the plan
    is nearly whole. Adding a constant to the potentials of a group of rows that share no column with other rows changes
    nothing. The ridge fixes this constant, so that the mean step, weighted by supply, is 0. It also makes the matrix
    strictly diagonally dominant, so that Cholesky can factor it.
    """
    laplacian = weights.neg()
    diagonal = laplacian.diagonal(dim1=-2, dim2=-1)
    diagonal.zero_()
    diagonal.copy_(ridge - laplacian.sum(-1))
    factor = torch.linalg.cholesky_ex(laplacian)[0]
    return torch.cholesky_solve(missing.unsqueeze(-1), factor).squeeze(-1).nan_to_num_(nan=0.0)
