"""Problems to test on, what a test may ask of them, and the tolerances, each with its reason."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from otalab.transport import TransportProblem

# What two exact solvers may differ by, and an exact gap be, relative to the objective. Sums of at most 1e5 float64
# terms err by some 1e-14 of their size; HiGHS and the network simplex end at a vertex, whose figures are as exact.
EXACT = 1e-9

# What two Sinkhorns of equal steps may differ by in an entry of the plan. An exponent of size c / eps <= 1e4 errs
# by 1e4 * 1e-16 a half-step; 1e2 half-steps and entries of at most 1e3 units leave 1e-7.
SAME_STEPS = 1e-6

# Entropic bound. What Sinkhorn holds after any half-step is P = exp((f + g - C) / eps), hence (Lagrange) the minimiser
# of <P, C> - eps H(P) among the plans with P's OWN marginals. With P* an exact plan for those marginals,
#     <P, C> - eps H(P) <= <P*, C> - eps H(P*),   so   <P, C> - OT <= eps (H(P) - H(P*)),  H(P) = -sum P (log P - 1).
# Equality can nearly hold, so the slack is rounding alone: EXACT of the largest figure in it.
ENTROPIC_SLACK = EXACT

EPS32 = 2.0**-24  # relative rounding of float32

quick = settings(deadline=None, max_examples=25, derandomize=True)


def entropy(plan: torch.Tensor) -> torch.Tensor:
    """-sum P (log P - 1), 0 log 0 = 0."""
    return plan.sum() - torch.xlogy(plan, plan).sum()


def costs(shape, ties: bool):
    """Whole costs 0..3, so that most optima are not unique, or real ones in [-10, 10] in steps of 1e-5.

    HiGHS and POT, whose tolerances are absolute, may take less for nothing; `test_scales` is for that.
    """
    elements = st.integers(0, 3).map(float) if ties else st.integers(-(10**6), 10**6).map(lambda step: step / 1e5)
    return hnp.arrays(np.float64, shape, elements=elements)


@st.composite
def label_problems(draw, ties: bool = False, max_n: int = 8):
    """Like OTA's: each column wants one label, and some owner of each column says what the rows offer."""
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, max_n))
    owner = draw(hnp.arrays(np.int64, n, elements=st.integers(0, m - 1)))
    cost = draw(costs((m, n), ties))
    return TransportProblem(cost, np.bincount(owner, minlength=m), np.ones(n))


@st.composite
def problems(draw, whole: bool = False, forbidden: bool = True):
    """Any problem: a feasible plan is drawn first, its sums are supply and demand, and routes it spares may be shut.

    Rows and columns of zero units and empty problems' near relations (all zero) occur.
    """
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    plan = draw(hnp.arrays(np.float64, shape, elements=st.integers(0, 3).map(float)))
    if not whole:
        plan = plan * draw(st.sampled_from([1.0, 0.1, 1 / 3]))
    cost = draw(costs(shape, draw(st.booleans())))
    if forbidden:
        shut = draw(hnp.arrays(np.bool_, shape))
        shut[-1] = shut[-1] & (not whole)  # "assignment" needs its last row open
        cost = np.where(shut & (plan == 0), np.inf, cost)
    return TransportProblem(cost, plan.sum(1), plan.sum(0))


def ota_like(seed: int = 0, m: int = 4, n: int = 60, batch: int | None = None, dtype=torch.float64) -> TransportProblem:
    """Costs in [0, 5], k = 3 labels a row, the last row the rest."""
    generator = torch.Generator().manual_seed(seed)
    shape = (m, n) if batch is None else (batch, m, n)
    supply = torch.full((m,), 3.0)
    supply[-1] = n - 3 * (m - 1)
    return TransportProblem(5 * torch.rand(shape, generator=generator, dtype=dtype), supply, torch.ones(n))


EXTREMES = ("unit", "million", "mixed", "negative")


def extreme(kind: str, dtype=torch.float64) -> TransportProblem:
    """`ota_like` with costs of order 1, of order 1e6, of both, or all far below 0."""
    problem = ota_like(dtype=dtype)
    cost = {
        "unit": problem.cost,
        "million": problem.cost * 1e6,
        "mixed": problem.cost + 1e6 * (problem.cost > 2),
        "negative": problem.cost - 1e6,
    }[kind]
    return TransportProblem(cost, problem.supply, problem.demand)
