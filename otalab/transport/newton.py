"""Entropic transport by Newton's method in the few unknowns it has: one potential a supplier."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab.transport.problem import TransportProblem
from otalab.transport.sinkhorn import check_options
from otalab.transport.solution import TransportSolution

RIDGE = 1e-12  # of a row's supply, on the Hessian's diagonal: above the rounding of its sums, below all that matters
NEAR = 6.0  # a step shorter than this, in units of eps, has nearly arrived: time for a smaller eps


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
        max_iter  Newton steps in total. Images take 6 to 12; dense costs up to 30 with eps 1e-3, 40

    After every step the columns are exact, to rounding, and the rows are not: the reverse of `sinkhorn`.
    `trace[..., k]` is the largest relative row error after k + 1 steps. Supplies whose sum differs from the demand's
    by rounding are scaled to it. f and g are -inf where a row or column has no units.

    eps starts at a quarter of the mean cost and is halved, in each problem on its own, whenever a step is short.
    Far from the solution a row's step d > 1, in units of eps, becomes 1 + log d. If that does not shorten the steps,
    the whole step is scaled by (1 + log R) / R, R > 1 its range, which is sure to ascend: along it, the third
    derivative of log sum exp is at most R times the second (Sun and Tran-Dinh, 2019, "Generalized self-concordant
    functions"). A row that must take all it can reach has its potential at infinity: its error falls by 1 / e a step.

    Columns with a single open route are served by it, so only columns with a choice enter the loop. The host reads
    three numbers before the loop (are rows out; which columns have a choice; how many at most) and one flag a step.
    Forbidden routes that leave no feasible plan end as missed tolerance, with finite figures.
    """
    check_options(eps=eps, max_iter=max_iter, tol=tol)
    cost, supply, demand = (x if problem.batched else x[None] for x in (problem.cost, problem.supply, problem.demand))
    supply, demand = supply.double(), demand.double()
    goods = supply.sum(-1, keepdim=True)
    supply = supply * torch.where(goods > 0, demand.sum(-1, keepdim=True) / goods, 1.0)
    if bool((supply == 0).any()):
        cost = cost.masked_fill((supply == 0).unsqueeze(-1), torch.inf)
    choices = _choices(cost, supply, demand)
    state, iterations, trace = _ascend(choices, eps, tol, max_iter)
    plan, g = _reconstruct(cost, demand, choices, state, eps)
    shape = problem.shape[:-2]
    return TransportSolution(
        problem=problem,
        plan=plan.view(problem.shape),
        f=state.f.masked_fill(supply == 0, -torch.inf).view(problem.supply.shape),
        g=g.view(problem.demand.shape),
        converged=_within(state.row_error.squeeze(-1), tol, iterations).view(shape),
        iterations=iterations,
        trace=torch.cat(trace, -1).view(*shape, -1) if trace else None,
    )


@dataclass(frozen=True, eq=False)
class _Choices:
    """What is left to decide: the columns with at least two open routes, padded to equal number in a batch.

    cost      (B, m, c) float64, less the least of its column; 0 in padding
    demand    (B, c) float64; 0 in padding
    supply    (B, m) float64, of all columns
    per_supply  1 / supply, 0 for rows that are out
    left      (B, m) float64, supply less what the columns without a choice take
    index     (B, c) the columns' numbers; 0 in padding
    only_row  (B, n) the last open row of each column
    single    (B, n) float64, the demand of columns with a single open route, else 0
    least     (B, n) the least cost of each column
    """

    cost: Float[Tensor, "B m c"]
    demand: Float[Tensor, "B c"]
    supply: Float[Tensor, "B m"]
    per_supply: Float[Tensor, "B m"]
    left: Float[Tensor, "B m"]
    index: Int[Tensor, "B c"]
    only_row: Int[Tensor, "B n"]
    single: Float[Tensor, "B n"]
    least: Float[Tensor, "B n"]


@dataclass(frozen=True, eq=False)
class _State:
    """What potentials f imply at some eps.

    logits     (B, m, c) (f_i - cost_ij) / eps
    share      (B, m, c) plan / demand
    plan       (B, m, c)
    missing    (B, m) supply less row sums: the gradient of the semi-dual
    row_error  (B, 1) the largest |missing| / supply
    """

    f: Float[Tensor, "B m"]
    logits: Float[Tensor, "B m c"]
    share: Float[Tensor, "B m c"]
    plan: Float[Tensor, "B m c"]
    missing: Float[Tensor, "B m"]
    row_error: Float[Tensor, "B 1"]


def _state(choices: _Choices, f: Float[Tensor, "B m"], eps: Float[Tensor, "B 1"] | float) -> _State:
    eps = eps.unsqueeze(-1) if isinstance(eps, Tensor) else eps
    logits = (f.unsqueeze(-1) - choices.cost).div_(eps)
    share = logits.softmax(-2)
    plan = share * choices.demand.unsqueeze(-2)
    missing = choices.left - plan.sum(-1)
    return _State(f, logits, share, plan, missing, (missing * choices.per_supply).abs_().amax(-1, keepdim=True))


def _choices(cost: Float[Tensor, "B m n"], supply: Float[Tensor, "B m"], demand: Float[Tensor, "B n"]) -> _Choices:
    """Reduce to the columns with a choice. A pass over the whole cost takes as long as a step; there are two."""
    batch, m = cost.shape[:2]
    is_open = cost.isposinf().logical_not_().view(torch.uint8)
    counter = torch.uint8 if m < 256 else torch.int32  # bytes are the quickest to sum
    number = torch.arange(m, dtype=counter, device=cost.device).unsqueeze(-1)
    only_row = (is_open * number).amax(-2).long()
    least = cost.amin(-2).double()
    has_choice = (is_open.sum(-2, dtype=counter) > 1) & (demand > 0)
    single = demand.masked_fill(has_choice, 0.0)
    left = supply.scatter_add(-1, only_row, -single)

    image, column = has_choice.nonzero(as_tuple=True)
    place = (
        has_choice.long().cumsum(-1)[image, column] - 1 if batch > 1 else torch.arange(len(column), device=cost.device)
    )
    width = int(place.max()) + 1 if batch > 1 and len(place) else len(place)
    index = column.new_zeros(batch, width).index_put_((image, place), column)
    taken = has_choice.new_zeros(batch, width).index_put_((image, place), has_choice.new_ones(()))
    chosen = cost.gather(-1, index.unsqueeze(-2).expand(-1, m, -1)).double() - least.gather(-1, index).unsqueeze(-2)
    return _Choices(
        cost=chosen.masked_fill_(~taken.unsqueeze(-2), 0.0),
        demand=demand.gather(-1, index) * taken,
        supply=supply,
        per_supply=torch.where(supply > 0, 1 / supply, 0.0),
        left=left,
        index=index,
        only_row=only_row,
        single=single,
        least=least,
    )


def _ascend(choices: _Choices, eps: float, tol: float, max_iter: int) -> tuple[_State, int, list[Float[Tensor, "B 1"]]]:
    """Newton's steps from f = 0: where they end, at eps, their number, and the row error after each."""
    supply = choices.supply
    ridge = torch.where(supply > 0, RIDGE * supply, 1.0)
    current = _first_eps(choices).clamp_(min=eps)  # (B, 1)
    f = torch.zeros_like(supply)
    careful = torch.zeros_like(current, dtype=torch.bool)
    last_reach = torch.full_like(current, torch.inf)
    trace = []
    for iteration in range(max_iter + 1):
        state = _state(choices, f, current)
        if iteration:
            trace.append(state.row_error)
        done = (state.row_error <= tol) & (current <= eps)
        if bool(done.all()):
            return state, iteration, trace
        if iteration == max_iter:
            break
        step = _newton_step(state, ridge)
        least, most = step.aminmax(dim=-1, keepdim=True)
        reach = most - least
        careful = careful | (reach >= last_reach)
        size = torch.where(careful, reach, step.abs()).clamp_(min=1.0)
        f = torch.where(done, f, f.addcmul(current, step * size.log().add_(1.0).div_(size)))
        smaller = torch.where(reach < NEAR, (current / 2).clamp_(min=eps), current)
        moved = smaller != current  # a new eps is a new problem, with a clean record
        careful, last_reach = careful.masked_fill_(moved, False), reach.masked_fill_(moved, torch.inf)
        current = smaller
    return _state(choices, f, eps), max_iter, trace  # annealing may have been cut short


def _newton_step(state: _State, ridge: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
    """Solve the graph Laplacian of the rows, weights sum_j P_ij P_kj / demand_j, for the step in units of eps.

    A diagonal that is the sum of the weights loses nothing to cancellation, as row sum - P_i^T P_i would when the
    plan is nearly whole. A constant added to the potentials of rows that share no column with others changes nothing:
    the ridge settles it, to a mean step of 0 weighted by supply, and makes the matrix diagonally dominant, which
    Cholesky needs.
    """
    laplacian = torch.bmm(state.plan, state.share.mT).neg_()
    diagonal = laplacian.diagonal(dim1=-2, dim2=-1)
    diagonal.zero_()
    diagonal.copy_(ridge - laplacian.sum(-1))
    factor = torch.linalg.cholesky_ex(laplacian)[0]
    return torch.cholesky_solve(state.missing.unsqueeze(-1), factor).squeeze(-1).nan_to_num_(nan=0.0)


def _first_eps(choices: _Choices) -> Float[Tensor, "B 1"]:
    """A quarter of the mean cost over that of the column's cheapest route."""
    is_open = (choices.cost < torch.inf) & (choices.demand > 0).unsqueeze(-2)
    total = choices.cost.where(is_open, 0.0).sum((-2, -1)) / 4
    return (total / is_open.sum((-2, -1)).clamp_(min=1)).unsqueeze(-1)


def _reconstruct(
    cost: Float[Tensor, "B m n"],
    demand: Float[Tensor, "B n"],
    choices: _Choices,
    state: _State,
    eps: float,
) -> tuple[Float[Tensor, "B m n"], Float[Tensor, "B n"]]:
    """The whole plan, and g_j = eps (log demand_j - log sum_i exp((f_i - cost_ij) / eps))."""
    plan = torch.zeros_like(cost, dtype=torch.float64)
    plan.scatter_(-2, choices.only_row.unsqueeze(-2), choices.single.unsqueeze(-2))
    plan.scatter_add_(-1, choices.index.unsqueeze(-2).expand(-1, cost.shape[-2], -1), state.plan)
    best = state.f.gather(-1, choices.only_row)
    # log sum exp = largest logit - log of the largest share; padding adds 0
    among = eps * (state.logits.amax(-2) - state.share.amax(-2).log()) - best.gather(-1, choices.index)
    best = best.scatter_add(-1, choices.index, among.where(choices.demand > 0, 0.0))
    g = choices.least - best + eps * demand.log()
    return plan, g.masked_fill_(demand == 0, -torch.inf)


def _within(row_error: Float[Tensor, " B"], tol: float, iterations: int) -> Bool[Tensor, " B"]:
    """row_error <= tol, with a warning if a tolerance was asked for and missed; all False if none was."""
    if tol == 0:
        return torch.zeros_like(row_error, dtype=torch.bool)
    met = row_error <= tol
    if not met.all():
        worst = f"row_error {row_error.max().item():.3g} of the supply"
        warnings.warn(f"newton, {iterations} iterations: {worst} is above tol {tol:g}", stacklevel=4)
    return met
