"""Sinkhorn-Knopp in the log domain: batched, on the device and in the dtype of its input."""

import warnings

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from otalab.checks import require
from otalab.errors import InputError
from otalab.transport.problem import TransportProblem, tolerance
from otalab.transport.solution import TransportSolution


@torch.no_grad()
def sinkhorn(
    problem: TransportProblem,
    *,
    eps: float = 0.1,
    max_iter: int = 50,
    tol: float = 0.0,
    check_every: int = 10,
) -> TransportSolution:
    """Solve entropic transport by alternate scaling: minimise <P, cost> - eps * H(P), H(P) = -sum P (log P - 1).

    P_ij = exp((f_i + g_j - cost_ij) / eps). Each iteration sets g so that the column sums are right, then f so that the
    row sums are. So at the end the rows are exact, up to rounding, and the columns are not. OTA's Algorithm 1 takes
    the same steps.

        eps          regularisation in units of cost (the paper's gamma)
        max_iter     most iterations; all of them are run if tol is 0
        tol          stop when col_error <= tol in every problem of the batch, in units of goods; warns if never met
        check_every  iterations between two entries of `trace`, and between two stopping tests

    `trace[..., k]` is the col_error after (k + 1) * check_every iterations. If `tol` is 0, nothing waits for the
    device. Otherwise the loop waits for it once every `check_every` iterations.

    Runs in the problem's dtype, whose rounding u is 6e-8 in float32 and 1e-16 in float64. A cost c then has an error of
    c * u, and an entry of the plan a relative error of c * u / eps. Wider potentials alone would not help, because the
    sum f_i + g_j - cost_ij still rounds to the matrix's dtype.

    Raises InputError for an option out of range, and for an eps at which cost / eps or a potential may overflow.
    Source: Cuturi, NeurIPS 2013; in the log domain, Peyre and Cuturi, Computational Optimal Transport, 2019, Sec. 4.4.
    """
    check_options(eps=eps, max_iter=max_iter, tol=tol, check_every=check_every)
    check_eps(problem, eps, problem.cost.dtype)
    supply, demand = problem.supply, problem.demand
    log_supply, log_demand = supply.log(), demand.log()  # -inf for 0 units: the row or column takes no part
    kernel = problem.cost / -eps  # (B, m, n); -inf on forbidden routes
    work = torch.empty_like(kernel)  # one buffer: on a CPU, allocating one costs as much as its exp
    u = torch.zeros_like(supply).masked_fill_(supply == 0, -torch.inf)  # f / eps
    columns = log_sum_exp(torch.add(u.unsqueeze(-1), kernel, out=work), -2)
    errors = []
    for iteration in range(1, max_iter + 1):
        v = log_demand - columns  # g / eps
        u = log_supply - log_sum_exp(torch.add(v.unsqueeze(-2), kernel, out=work), -1)
        columns = log_sum_exp(torch.add(u.unsqueeze(-1), kernel, out=work), -2)  # P's columns sum to exp(columns + v)
        if iteration % check_every == 0:
            errors.append(((columns + v).exp() - demand).abs().amax(-1))
            if tol > 0 and bool((errors[-1] <= tol).all()):
                break
    plan = torch.add(kernel, u.unsqueeze(-1), out=work).add_(v.unsqueeze(-2)).exp_()
    return TransportSolution(
        problem=problem,
        plan=plan,
        f=eps * u,
        g=eps * v,
        converged=within(tol, f"sinkhorn, {iteration} iterations", sum_errors(problem, plan)),
        iterations=iteration,
        trace=torch.stack(errors, -1) if errors else None,
    )


def log_sum_exp(x: Float[Tensor, "*batch m n"], dim: int) -> Float[Tensor, "*batch k"]:
    """log(sum(exp(x))) along `dim`; overwrites x.

    Terms smaller than exp(-80) times the largest are raised to that. This adds less than 2e-35 per term to a sum of at
    least 1, which no dtype resolves. It avoids arguments whose exp is nearly denormal, which take a CPU up to 20 times
    longer.
    """
    top = x.amax(dim, keepdim=True).clamp_(min=torch.finfo(x.dtype).min)  # never -inf: -inf - -inf is NaN
    return x.sub_(top).clamp_(min=-80.0).exp_().sum(dim).log_().add_(top.squeeze(dim))


def check_options(*, eps: float, max_iter: int, tol: float = 0.0, check_every: int = 1) -> None:
    """Raise InputError for an option that is invalid for every entropic solver."""
    require("be positive and finite", eps=eps)
    require("not be negative", tol=tol)
    require("be a whole number of at least 1", max_iter=max_iter, check_every=check_every)


def check_eps(problem: TransportProblem, eps: float, dtype: torch.dtype) -> None:
    """Raise InputError if eps is so small that cost / eps may overflow, or so large that a potential may."""
    limits = torch.finfo(dtype)
    most = limits.max / 2**10
    least = max(limits.tiny, problem.largest / most)
    if not least <= eps <= most:
        kind = str(dtype).removeprefix("torch.")
        raise InputError(
            f"for costs up to {problem.largest:g} in {kind} eps must be in [{least:g}, {most:g}], not {eps}"
        )


def sum_errors(problem: TransportProblem, plan: Float[Tensor, "*batch m n"]) -> dict[str, Float[Tensor, "*batch"]]:
    """How far each plan's columns miss their demands, and its rows, which were set last, their supplies.

    A row's error counts only beyond `tolerance` * supply. It misses by more if costs are so large in units of eps that
    the rounding of an exponent matters.
    """
    row_error = (plan.sum(-1) - problem.supply).abs() - tolerance(plan.dtype) * problem.supply
    return {"col_error": (plan.sum(-2) - problem.demand).abs().amax(-1), "row_error": row_error.amax(-1)}


def within(
    tol: float, after: str, errors: dict[str, Float[Tensor, "*batch"]], unit: str = ""
) -> Bool[Tensor, "*batch"]:
    """Whether all errors of each problem are at most `tol`, with a warning if one is not; all False if `tol` is 0."""
    met = torch.stack([error <= tol for error in errors.values()]).all(0)
    if tol == 0:
        return torch.zeros_like(met)
    for name, error in errors.items():
        if not (error <= tol).all():
            warnings.warn(f"{after}: {name} {error.max().item():.3g}{unit} is above tol {tol:g}", stacklevel=4)
            break
    return met
