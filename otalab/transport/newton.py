"""Entropic transport by Newton's method in the few unknowns it has: one potential a supplier."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from otalab.transport.problem import TransportProblem
from otalab.transport.sinkhorn import check_options
from otalab.transport.solution import TransportSolution

RIDGE = 1e-13  # of a row's supply, on the Hessian's diagonal: above the rounding of its sums, below all that matters
NEAR = 4.0  # a step shorter than this, in units of eps, has nearly arrived: time for a smaller eps


@torch.no_grad()
def newton(problem: TransportProblem, *, eps: float = 0.1, tol: float = 1e-9, max_iter: int = 50) -> TransportSolution:
    """Entropic transport, `sinkhorn`'s problem, by damped Newton steps on its semi-dual. Float64, batched, on the device.

    Given f, the columns are right for P_ij = demand_j * softmax_i((f_i - cost_ij) / eps), which leaves the concave

        maximise  sum_i supply_i f_i - eps sum_j demand_j log sum_i exp((f_i - cost_ij) / eps)

    (Cuturi and Peyre, 2018, "Semidual regularized optimal transport"). Its gradient is supply - row sums, its Hessian
    -(diag(row sums) - P diag(1 / demand) P^T) / eps: the Laplacian of a graph of m rows, kept free of cancellation.

        eps       regularisation in units of cost, as `sinkhorn`'s
        tol       stop when |row sum - supply| <= tol * supply in every row: relative to the row's own supply. Warns
                  if not met. 0 runs all steps and makes no claim
        max_iter  Newton steps in total. Images take 8 to 16; the smaller eps beside the costs, the more

    After every step the columns are exact, to rounding, and the rows are not: the reverse of `sinkhorn`.
    `trace[..., k]` is the largest relative row error after k + 1 steps. Supplies whose sum differs from the demand's
    by rounding are scaled to it. f is 0 in the row of the largest supply, -inf where a row or column has no units.

    eps starts at a quarter of the mean cost and is halved, in each problem on its own, whenever a step is short.
    Far from the solution a step d, in units of eps, becomes sign(d) log(1 + |d|); if that does not shorten the steps,
    the whole step is scaled by log(1 + R) / R, R its range, which is sure to ascend: the third derivative of log sum
    exp is at most R times the second (Sun and Tran-Dinh, 2019).

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
    f, iterations, trace = _ascend(choices, eps, tol, max_iter)
    logits = (f.unsqueeze(-1) - choices.cost) / eps
    plan, g = _reconstruct(cost, demand, choices, f, logits, eps)
    row_error = choices.row_error(logits)
    shape = problem.shape[:-2]
    return TransportSolution(
        problem=problem,
        plan=plan.view(problem.shape),
        f=f.masked_fill(supply == 0, -torch.inf).view(problem.supply.shape),
        g=g.view(problem.demand.shape),
        converged=_within(row_error, tol, iterations).view(shape),
        iterations=iterations,
        trace=torch.stack(trace, -1).view(*shape, -1) if trace else None,
    )


@dataclass(frozen=True, eq=False)
class _Choices:
    """What is left to decide: the columns with at least two open routes, padded to equal number in a batch.

    cost      (B, m, c) float64, less the least of its column; 0 in padding
    demand    (B, c) float64; 0 in padding
    supply    (B, m) float64, of all columns
    left      (B, m) float64, supply less what the columns without a choice take
    index     (B, c) the columns' numbers; 0 in padding
    only_row  (B, n) the last open row of each column
    single    (B, n) float64, the demand of columns with a single open route, else 0
    least     (B, n) the least cost of each column
    """

    cost: Float[Tensor, "B m c"]
    demand: Float[Tensor, "B c"]
    supply: Float[Tensor, "B m"]
    left: Float[Tensor, "B m"]
    index: Int[Tensor, "B c"]
    only_row: Int[Tensor, "B n"]
    single: Float[Tensor, "B n"]
    least: Float[Tensor, "B n"]

    def plan(self, share: Float[Tensor, "B m c"]) -> Float[Tensor, "B m c"]:
        return share * self.demand.unsqueeze(-2)

    def missing(self, plan: Float[Tensor, "B m c"]) -> Float[Tensor, "B m"]:
        """Supply less row sums: the gradient of the semi-dual."""
        return self.left - plan.sum(-1)

    def relative(self, missing: Float[Tensor, "B m"]) -> Float[Tensor, " B"]:
        return (missing.abs() / self.supply.clamp(min=torch.finfo(torch.float64).tiny)).amax(-1)

    def row_error(self, logits: Float[Tensor, "B m c"]) -> Float[Tensor, " B"]:
        return self.relative(self.missing(self.plan(logits.softmax(-2))))


def _choices(cost: Float[Tensor, "B m n"], supply: Float[Tensor, "B m"], demand: Float[Tensor, "B n"]) -> _Choices:
    """Reduce to the columns with a choice. Every pass over the whole cost costs as much as an iteration: there are two."""
    batch, m, n = cost.shape
    is_open = cost.isposinf().logical_not_().view(torch.uint8)
    counter = torch.uint8 if m < 256 else torch.int32  # a byte is six times faster to sum
    number = torch.arange(m, dtype=counter, device=cost.device).unsqueeze(-1)
    only_row = (is_open * number).amax(-2).long()
    least = cost.amin(-2).double()
    has_choice = (is_open.sum(-2, dtype=counter) > 1) & (demand > 0)
    single = demand.masked_fill(has_choice, 0.0)
    left = supply.scatter_add(-1, only_row, -single)

    image, column = has_choice.nonzero(as_tuple=True)
    place = has_choice.long().cumsum(-1)[image, column] - 1 if batch > 1 else torch.arange(len(column), device=cost.device)
    width = int(place.max()) + 1 if batch > 1 and len(place) else len(place)
    index = column.new_zeros(batch, width).index_put_((image, place), column)
    taken = has_choice.new_zeros(batch, width).index_put_((image, place), has_choice.new_ones(()))
    chosen = cost.gather(-1, index.unsqueeze(-2).expand(-1, m, -1)).double() - least.gather(-1, index).unsqueeze(-2)
    return _Choices(
        cost=chosen.masked_fill_(~taken.unsqueeze(-2), 0.0),
        demand=demand.gather(-1, index) * taken,
        supply=supply,
        left=left,
        index=index,
        only_row=only_row,
        single=single,
        least=least,
    )


def _ascend(
    choices: _Choices, eps: float, tol: float, max_iter: int
) -> tuple[Float[Tensor, "B m"], int, list[Float[Tensor, " B"]]]:
    """Newton's steps from f = 0: the potentials, the number of steps, and the row error after each."""
    supply = choices.supply
    ridge = torch.where(supply > 0, RIDGE * supply, 1.0)
    ground = supply.argmax(-1, keepdim=True)
    current = _first_eps(choices).clamp_(min=eps)  # (B, 1)
    f = torch.zeros_like(supply)
    careful = torch.zeros_like(current, dtype=torch.bool)
    last_range = torch.full_like(current, torch.inf)
    trace = []
    for iteration in range(max_iter + 1):
        share = ((f.unsqueeze(-1) - choices.cost) / current.unsqueeze(-1)).softmax(-2)
        plan = choices.plan(share)
        missing = choices.missing(plan)
        error = choices.relative(missing)
        if iteration:
            trace.append(error)
        done = (error.unsqueeze(-1) <= tol) & (current <= eps)
        if iteration == max_iter or bool(done.all()):
            break
        step = _newton_step(plan, share, missing, ridge)
        step = step - step.gather(-1, ground)
        reach = step.amax(-1, keepdim=True) - step.amin(-1, keepdim=True)
        careful = careful | ~(reach < last_range)
        damped = torch.where(careful, step * _shrink(reach), step * _shrink(step.abs()))
        f = torch.where(done, f, f + current * damped)
        smaller = torch.where(reach < NEAR, (current / 2).clamp_(min=eps), current)
        stays = smaller == current  # a new eps is a new problem, with a clean record
        careful, last_range = careful & stays, torch.where(stays, reach, torch.inf)
        current = smaller
    return f, iteration, trace


def _newton_step(
    plan: Float[Tensor, "B m c"], share: Float[Tensor, "B m c"], missing: Float[Tensor, "B m"], ridge: Float[Tensor, "B m"]
) -> Float[Tensor, "B m"]:
    """Solve the graph Laplacian of the rows, weights sum_j P_ij P_kj / demand_j, for the step in units of eps.

    A diagonal that is the sum of the weights loses nothing to cancellation, as row sum - P_i^T P_i would when the
    plan is nearly whole. The ridge keeps apart rows, whose common potential is free, from making it singular.
    """
    weights = plan @ share.mT
    weights.diagonal(dim1=-2, dim2=-1).zero_()
    laplacian = torch.diag_embed(weights.sum(-1) + ridge) - weights
    return torch.linalg.solve_ex(laplacian, missing)[0].nan_to_num_(nan=0.0)


def _shrink(size: Tensor) -> Tensor:
    """log(1 + size) / size, 1 at 0."""
    size = size.clamp(min=1e-12)
    return size.log1p() / size


def _first_eps(choices: _Choices) -> Float[Tensor, "B 1"]:
    """A quarter of the mean cost over that of the column's cheapest route."""
    is_open = choices.cost.isfinite() & (choices.demand > 0).unsqueeze(-2)
    total = choices.cost.where(is_open, 0.0).sum((-2, -1)) / 4
    return (total / is_open.sum((-2, -1)).clamp_(min=1)).unsqueeze(-1)


def _reconstruct(
    cost: Float[Tensor, "B m n"],
    demand: Float[Tensor, "B n"],
    choices: _Choices,
    f: Float[Tensor, "B m"],
    logits: Float[Tensor, "B m c"],
    eps: float,
) -> tuple[Float[Tensor, "B m n"], Float[Tensor, "B n"]]:
    """The whole plan, and g_j = eps (log demand_j - log sum_i exp((f_i - cost_ij) / eps))."""
    share = logits.softmax(-2)
    plan = torch.zeros_like(cost, dtype=torch.float64)
    plan.scatter_(-2, choices.only_row.unsqueeze(-2), choices.single.unsqueeze(-2))
    plan.scatter_add_(-1, choices.index.unsqueeze(-2).expand(-1, cost.shape[-2], -1), choices.plan(share))
    best = f.gather(-1, choices.only_row)
    # log sum exp = largest logit - log of the largest share; padding adds 0
    among = eps * (logits.amax(-2) - share.amax(-2).log()) - best.gather(-1, choices.index)
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
