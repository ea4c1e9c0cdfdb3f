"""Python Optimal Transport's Sinkhorn, with its conventions translated into ours."""

import ot
import torch

from otalab.transport.problem import TransportProblem
from otalab.transport.sinkhorn import check_eps, check_options, sum_errors, within
from otalab.transport.solution import TransportSolution


@torch.no_grad()
def pot_sinkhorn(
    problem: TransportProblem, *, eps: float = 0.1, max_iter: int = 50, tol: float = 0.0
) -> TransportSolution:
    """Run `ot.sinkhorn(..., method="sinkhorn_log")` on each problem in turn, on its device and in its dtype.

    Like `sinkhorn`, POT updates columns first and rows last, from u = 0, so equal `eps` and `max_iter` give the same
    plan. There are three differences. POT's duals are log u and log v, in units of eps. Its stopping test, at
    iterations 1, 11, 21, ..., compares the Euclidean norm of the column errors with `tol`. And rows or columns of zero
    units would give NaN, so they are left out.
    """
    check_options(eps=eps, max_iter=max_iter, tol=tol)
    check_eps(problem, eps, problem.cost.dtype)
    plan = torch.zeros_like(problem.cost)
    f = torch.full_like(problem.supply, -torch.inf)
    g = torch.full_like(problem.demand, -torch.inf)
    iterations = 0
    views = [part if problem.batched else part[None] for part in (plan, f, g)]  # views to write into
    for cost, supply, demand, one_plan, one_f, one_g in zip(*problem.as_batch(), *views, strict=True):
        rows, columns = supply.nonzero().squeeze(-1), demand.nonzero().squeeze(-1)
        if len(rows) == 0:
            continue
        live = torch.meshgrid(rows, columns, indexing="ij")
        one_plan[live], log = ot.sinkhorn(
            supply[rows],
            demand[columns],
            cost[live],
            eps,
            method="sinkhorn_log",
            numItermax=max_iter,
            stopThr=tol,
            log=True,
            warn=False,
        )
        one_f[rows], one_g[columns] = eps * log["log_u"], eps * log["log_v"]
        iterations = max(iterations, log["niter"] + 1)
    return TransportSolution(
        problem=problem,
        plan=plan,
        f=f,
        g=g,
        converged=within(tol, f"pot-sinkhorn, {iterations} iterations", sum_errors(problem, plan)),
        iterations=iterations,
    )
