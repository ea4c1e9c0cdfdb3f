"""Ten thousand hard problems through every exact method: `python -m tests.transport.campaign 10000`.

Each problem is drawn from its number: many ties, costs from 1e-12 to 1e300 in one matrix or all over, forbidden
routes up to infeasible, few and many units. The optimum is known exactly, by fractions. A method must reach it, or
refuse in one line, or say that it did not converge; anything else is a failure.
"""

import sys
import warnings
from collections import Counter
from fractions import Fraction

import numpy as np

from otalab.errors import InputError
from otalab.transport import TransportProblem, certify, solve
from otalab.transport.methods import EXACT

KINDS = ("ties", "scaled", "mixed", "never", "forbidden", "crowded")


def hard_problem(number: int) -> TransportProblem:
    """The problem of that number; its kind is KINDS[number % 6]."""
    rng = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    m = int(rng.integers(2, 7))
    supply = rng.integers(0, 4, m)
    supply[-1] += rng.integers(1, 12)
    n = int(supply.sum())
    cost = rng.uniform(-1, 4, (m, n))
    if kind == "ties":
        cost = rng.integers(0, 3, (m, n)).astype(float)
    elif kind == "scaled":
        cost *= 10.0 ** rng.integers(-12, 300)
    elif kind == "mixed":
        cost *= 10.0 ** rng.integers(-12, 19, (m, n))
    elif kind == "never":  # a constant for "never", which is no infinity
        cost = np.where(rng.random((m, n)) < 0.6, 10.0 ** rng.integers(6, 19), np.abs(cost))
    else:
        shut = rng.random((m, n)) < (0.5 if kind == "forbidden" else 0.9)
        shut[-1] = False
        shut[np.arange(m), rng.integers(0, n, m)] = False  # a row without a route is refused at once
        cost[shut] = np.inf
    return TransportProblem(cost, supply, np.ones(n))


def judge(problem: TransportProblem, optimum: Fraction | None, method: str) -> str:
    """What a method made of a problem: right, refused or honest (not converged, and it warned); else what is wrong."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            solution = solve(problem, method)
        except InputError as error:
            return "refused" if optimum is None or "HiGHS" in str(error) else f"refused a feasible problem: {error}"
    if optimum is None:
        return "solved an infeasible problem"
    if not solution.converged:
        return "honest" if said and method in ("emd", "linprog") else "did not converge"
    away = abs(Fraction(solution.objective.item()) - optimum)
    if away > Fraction(1, 10**9) * Fraction(solution.certificate.paid.item()):
        return f"{float(away):.3g} off the optimum {float(optimum):.6g}"
    return "right" if not said and solution.certificate.is_optimal() else "not certified"


def best_of(problem: TransportProblem) -> Fraction | None:
    """The exact optimum; None if there is no feasible plan."""
    try:
        return certify(problem, np.zeros(tuple(problem.shape)), exact=True).dual_objective
    except InputError:
        return None


def main(count: int) -> int:
    verdicts: Counter = Counter()
    for number in range(count):
        problem = hard_problem(number)
        optimum = best_of(problem)
        for method in EXACT:
            verdict = judge(problem, optimum, method)
            verdicts[KINDS[number % len(KINDS)], method, verdict] += 1
            if verdict not in ("right", "refused", "honest"):
                print(f"problem {number}, {KINDS[number % len(KINDS)]}, {method}: {verdict}", flush=True)
    for (kind, method, verdict), times in sorted(verdicts.items()):
        print(f"{kind:<10} {method:<11} {times:>6}  {verdict}")
    return sum(times for (_, _, verdict), times in verdicts.items() if verdict not in ("right", "refused", "honest"))


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1])) else 0)
