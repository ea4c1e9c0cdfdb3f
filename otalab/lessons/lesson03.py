"""Lesson 03: a tie between plans although all costs differ, on which exact solvers return different plans."""

import torch
from torch import Tensor

from otalab.lab.simulate import seeded
from otalab.lessons.verdict import Hint, checker, hint_if, missing, numbers
from otalab.transport import TransportProblem, TransportSolution, solve

EXACT = ("linprog", "emd", "assignment", "augmenting-path", "auction")
MOST_ROWS, MOST_COLUMNS, MOST = 6, 8, 1e6
NUDGE = 1e-5  # most added to a cost; changes the cost of a plan by far less than 1, so it can only break ties
NUDGES = 20  # random ones; all of them miss a tie with a probability of at most 2^-20


@checker
def check(cost, supply) -> str:
    """Check that the costs are whole and all different, and that two exact solvers prove different plans optimal."""
    start = "Start with two rows and two columns: how many plans are there?"
    hint_if(missing(cost, supply), f"Give cost, a list of rows, and supply. {start}")
    costs, units = whole(cost, 2), whole(supply, 1)
    odd = costs is None or units is None
    hint_if(odd, "cost must be rows of whole numbers, all rows as long, and supply a list of whole numbers.")
    m, n = costs.shape
    if not (2 <= m <= MOST_ROWS and 2 <= n <= MOST_COLUMNS):
        raise Hint(f"cost has {m} rows and {n} columns; take 2 to {MOST_ROWS} rows and 2 to {MOST_COLUMNS} columns.")
    hint_if(costs.abs().max() > MOST, "Costs beyond a million are not needed: take small numbers.")
    values, counts = costs.unique(return_counts=True)
    most = counts.argmax()
    hint_if(counts[most] > 1, f"{values[most]:g} is in there {counts[most]} times. All costs must differ.")
    if len(units) != m or units.min() < 1 or units.sum() != n:
        raise Hint(f"supply needs {m} numbers of at least 1 that sum to {n}, one label for each column.")

    problem = TransportProblem(costs, units, torch.ones(n))
    solutions = {method: solve(problem, method) for method in EXACT}
    plans = {method: found for method, found in solutions.items() if bool(found.certificate.is_optimal())}
    first, *others = plans
    for other in others:
        if (plans[first].plan - plans[other].plan).abs().max() > 1e-6:
            mine, theirs = plans[first].labels.tolist(), plans[other].labels.tolist()
            return (
                f"{first} gives the labels {mine}, {other} gives {theirs}; both cost {plans[first].objective:.0f}, and "
                "both prove it. What ties is no entry but a trade: points change suppliers, and what some save the "
                "others pay. That is why plans of two solvers should never be compared where costs may tie."
            )
    tie = "Well built: there is a tie. But all five happened to take the same plan. Add columns, or reorder."
    hint_if(tied(problem, plans[first]), tie)
    raise Hint(
        f"No tie: the plan that costs {plans[first].objective:.0f} is the only one, and all five found it. "
        "Take two points that different rows serve, and let these rows trade: what does that cost, and what should it?"
    )


def tied(problem: TransportProblem, best: TransportSolution) -> bool:
    """Whether a small random change of the costs leads to another plan that is optimal for the original costs too."""
    generator = seeded(0)
    for _ in range(NUDGES):
        noise = NUDGE * torch.rand(problem.shape, generator=generator, dtype=torch.float64)
        plan = solve(TransportProblem(problem.cost + noise, problem.supply, problem.demand), "emd").plan
        same_cost = abs(float((plan * problem.cost).sum() - best.objective)) < 0.5  # whole costs differ by 1 or not
        if same_cost and (plan - best.plan).abs().max() > 1e-6:
            return True
    return False


def whole(values, dimensions: int) -> Tensor | None:
    """`values` as a tensor of whole numbers with `dimensions` dimensions; None if they are anything else, or empty."""
    found = numbers(values)
    fits = found is not None and found.ndim == dimensions and found.numel() and found.isfinite().all()
    return found if fits and found.equal(found.round()) else None
