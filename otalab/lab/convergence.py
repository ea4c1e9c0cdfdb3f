"""How fast entropic solvers converge and when their labels are right: the curves of `otalab verify --picture`."""

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Int

from otalab.errors import InputError
from otalab.transport import TransportProblem, solve
from otalab.transport.sinkhorn import check_options

FACTORS = (10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05)  # times the eps asked for
LONGER = 10  # Sinkhorn is followed for this many times the iterations asked for


@dataclass(frozen=True, eq=False)
class Course:
    """The course of Sinkhorn at one eps.

    errors       (i,) largest error of a column sum after 1, 2, ..., i iterations, in units of the largest demand
    checkpoints  (c,) numbers of iterations after which labels are compared
    wrong        (c,) number of columns at each checkpoint whose label differs from the exact plan's
    settled      the same number at convergence, which Newton's method computes; None if Newton did not converge
    newton       (j,) largest relative error of a row sum after 1, 2, ..., j Newton steps
    """

    eps: float
    errors: Float[np.ndarray, " i"]
    checkpoints: Int[np.ndarray, " c"]
    wrong: Int[np.ndarray, " c"]
    settled: int | None
    newton: Float[np.ndarray, " j"]

    def wrong_after(self, iterations: int) -> int:
        """The number of wrong labels at the checkpoint after `iterations` iterations."""
        return int(self.wrong[self.checkpoints == iterations].item())


@dataclass(frozen=True, eq=False)
class Convergence:
    """The courses of one problem, from the largest eps to the smallest.

    eps, max_iter  as asked for; all courses have checkpoints at max_iter and LONGER * max_iter
    positives      number of columns that the exact plan does not leave to the last row (the background)
    """

    eps: float
    max_iter: int
    positives: int
    courses: list[Course]

    def as_dict(self) -> dict:
        """The figures as a dict for JSON."""
        return asdict(self, dict_factory=lists)


def lists(fields: Iterable[tuple[str, object]]) -> dict:
    """A dict of a dataclass's fields, with arrays as lists."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields}


def converge(problem: TransportProblem, eps: float = 0.1, max_iter: int = 50) -> Convergence:
    """Follow Sinkhorn at FACTORS times `eps` for LONGER * `max_iter` iterations and count the labels that are wrong.

    Each checkpoint takes a separate run; the shorter runs together take about as long as the longest. Where optimal
    labels tie, others are as good but count as wrong, so the counts are meaningful only for costs that rarely tie.
    Raises InputError for faulty options and for a batch.
    """
    check_options(eps=eps, max_iter=max_iter, tol=0.0)
    if problem.batched:
        raise InputError(f"convergence is of one problem, not of a batch {tuple(problem.shape)}")
    problem = TransportProblem(problem.cost.double(), problem.supply, problem.demand)
    labels = solve(problem, "emd").labels
    grid = [float(f"{eps * factor:g}") for factor in FACTORS]  # 0.02, not 0.020000000000000004
    courses = [course(problem, labels, one, max_iter) for one in grid]
    positives = int((labels < len(problem.cost) - 1).sum())
    return Convergence(eps, max_iter, positives, courses)


def course(problem: TransportProblem, labels, eps: float, max_iter: int) -> Course:
    """Run Sinkhorn at one eps to each checkpoint, and Newton's method to convergence."""
    points = checkpoints(max_iter)
    wrong = []
    for point in points:
        solution = solve(problem, "sinkhorn", eps=eps, max_iter=point, check_every=1)
        wrong.append(int((solution.labels != labels).sum()))
    with warnings.catch_warnings(action="ignore"):  # about a missed tolerance, which `converged` tells too
        newton = solve(problem, "newton", eps=eps)
    settled = int((newton.labels != labels).sum()) if bool(newton.converged) else None
    steps = np.zeros(0) if newton.trace is None else newton.trace.numpy()  # no trace if no column has a choice of rows
    errors = solution.trace / (problem.demand.max() or 1.0)
    return Course(eps, errors.numpy(), np.array(points), np.array(wrong), settled, steps)


def checkpoints(max_iter: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... below LONGER * max_iter, and also max_iter and LONGER * max_iter themselves."""
    last = LONGER * max_iter
    series = (step * 10**power for power in range(len(str(last))) for step in (1, 2, 5))
    return sorted({max_iter, last, *(point for point in series if point < last)})
