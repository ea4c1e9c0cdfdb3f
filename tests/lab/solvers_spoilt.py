"""What the tests of `verify` share: its claims by short names, and solvers that go wrong on purpose."""

import inspect
from dataclasses import replace

from otalab.lab.cases import Case
from otalab.transport import METHODS, TransportProblem

NAN = float("nan")
CLAIMS = {
    "agree": "exact solvers agree (relative)",
    "prove": "exact solvers prove it (relative excess)",
    "sums": "exact plans meet their sums (relative)",
    "pot": "Sinkhorn equals POT's (largest plan entry)",
    "newton sums": "Newton's plan meets its sums",
    "newton form": "Newton's plan is exp((f + g - cost) / eps) (largest entry)",
    "newton cost": "Newton's cost is within its entropic bound (relative)",
    "labels": "labels of `ota` cost the optimum (relative)",
}
FRACTIONAL = Case("halves", TransportProblem([[1.0, 2.0, 5.0], [3.0, 3.0, 3.0]], [1.5, 1.5], [1.0, 1.0, 1.0]))


def failed(verification) -> set[str]:
    keys = {claim: key for key, claim in CLAIMS.items()}
    return {keys.get(check.claim, check.claim) for check in verification.checks if not check.passed}


def claimed(verification) -> set[str]:
    return {key for key, claim in CLAIMS.items() if claim in {check.claim for check in verification.checks}}


def spoil(method: str, change, monkeypatch) -> None:
    """Let a solver return another solution than its own."""
    solver = METHODS[method]

    def spoiled(problem, **options):
        solution = solver(problem, **options)
        return replace(solution, **change(solution))

    spoiled.__signature__ = inspect.signature(solver)
    monkeypatch.setitem(METHODS, method, spoiled)


def moved(solution) -> dict:
    """The plan with a unit shipped by another row, columns as before."""
    plan = solution.plan.clone()
    giver = int(plan[:, 0].argmax())
    plan[giver, 0] -= 1
    plan[(giver + 1) % len(plan), 0] += 1
    return {"plan": plan}


def swapped(solution) -> dict:
    """The plan with two columns of different rows exchanged: sums as before, cost higher."""
    plan = solution.plan.clone()
    first, second = (int(plan[row].argmax()) for row in (0, 1))
    plan[:, [first, second]] = plan[:, [second, first]]
    return {"plan": plan}
