"""Ways from the cost matrices of a case to labels: otalab's solvers, each called as it is meant to be used."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.cases import Case
from otalab.errors import InputError
from otalab.transport import solve
from otalab.transport.arc_sinkhorn import TINY, ArcSinkhornSolution, arc_sinkhorn
from otalab.transport.arcs import ArcProblem, ArcSolution
from otalab.transport.auction import auction
from otalab.transport.augmenting_path import augmenting_path
from otalab.transport.newton import newton
from otalab.transport.presolve import by_arcs, rows_of_owners, solve_over_slack


@dataclass(frozen=True)
class Answer:
    """Labels (B, n), with m for the background, and prices (B, m + 1) of the rows, if the solver has any."""

    labels: Int[Tensor, "B n"]
    price: Float[Tensor, "B m1"] | None = None


def by_presolve(case: Case, solver: Callable[..., ArcSolution], off_prior: float = 1e6, **options) -> Callable:
    """A way from the cost matrix to labels and prices, presolve included; it makes no plan."""
    problem = case.problem(off_prior)
    blocks, m1, n = problem.cost.shape
    slack = torch.full((blocks,), m1 - 1)
    columns = torch.arange(n).expand(blocks, n)

    def find() -> Answer:
        found = solve_over_slack(problem.cost, problem.supply, slack, columns, None, solver, options)
        return Answer(rows_of_owners(found, slack), found.price.view(blocks, m1))

    return find


def by_method(case: Case, method: Callable, off_prior: float = 1e6, **options) -> Callable:
    """A way to labels and prices by a method of `solve`, which also makes the dense plan."""
    problem = case.problem(off_prior)

    def find() -> Answer:
        with warnings.catch_warnings(action="ignore"):  # a missed tolerance shows in the table
            found = method(problem, **options)
        return Answer(found.labels, found.f)

    return find


def by_prior(case: Case, solver: Callable, **options) -> Callable:
    """A way by an entropic solver of arcs; each call finds the pairs in the prior from the cost matrix."""
    blocks, m1, n = case.cost.shape
    most = int((case.cost[:, :-1] < 5e5).sum(dim=2).max())
    row = torch.arange(blocks * m1)
    k = case.supply.long().index_fill(1, torch.tensor(m1 - 1), 0).flatten()

    def find() -> Answer:
        over = case.cost - case.cost[:, -1:]
        over[:, -1] = torch.inf
        cost, column = over.view(blocks * m1, n).topk(most, dim=1, largest=False)
        cost = cost.double().masked_fill(cost > 5e5, torch.inf)
        arcs = ArcProblem(cost, column + (row // m1 * n)[:, None], k, row // m1, n, blocks)
        owner = rescaled(solver(arcs, **options)).labels().view(blocks, n)
        return Answer(torch.where(owner >= 0, owner % m1, m1 - 1))

    return find


def rescaled(soft: ArcSinkhornSolution) -> ArcSinkhornSolution:
    """The plan with each row, and each block's slack, divided by its largest entry, as the authors decode it."""
    slack = soft.background.view(soft.problem.blocks, -1)
    share, slack = (x / x.amax(dim=1, keepdim=True).clamp(min=TINY) for x in (soft.share, slack))
    return replace(soft, share=share, background=slack.flatten())


def one_by_one(case: Case, labels: Callable, **options) -> Callable:
    """A loop over the images, for a function from one cost matrix and its supplies to labels."""
    return lambda: Answer(torch.stack([labels(c, s, **options) for c, s in zip(case.cost, case.supply, strict=True)]))


def ours(case: Case) -> dict[str, Callable[[], Answer]]:
    """otalab's solvers. Those that off-prior costs of 1e6 would hamper get +inf instead."""
    ways = {
        "augmenting-path, numpy only": by_presolve(case, augmenting_path, compiled=False),
        "augmenting-path, compiled": by_presolve(case, augmenting_path, compiled=True),
        "solve, dense plan included": by_method(case, partial(solve, method="augmenting-path")),
        "arc_sinkhorn, 50 iterations": by_prior(case, arc_sinkhorn, eps=0.1, max_iter=50),
    }
    if not feasible(case):
        return ways
    return ways | {
        "augmenting-path, compiled, off-prior +inf": by_presolve(case, augmenting_path, torch.inf, compiled=True),
        "auction, off-prior +inf": by_presolve(case, auction, torch.inf),
        "newton, eps 0.1, off-prior +inf": by_method(case, newton, torch.inf, eps=0.1),
        "newton, eps 1e-3, off-prior +inf": by_method(case, newton, torch.inf, eps=1e-3, max_iter=100),
        "solve(problem, 'newton'), off-prior +inf": by_method(case, partial(solve, method="newton"), torch.inf),
    }


def feasible(case: Case) -> bool:
    """Whether all rows can get their k from their priors."""
    try:
        by_arcs(augmenting_path)(case.problem(torch.inf))
    except InputError:
        return False
    return True
