"""Checker of lesson 01: prices that prove a plan optimal."""

import torch

from otalab.lessons.verdict import Hint, checker, hint_if, missing, numbers

COST = [[4.0, 4.0, 7.0], [8.0, 3.0, 9.0]]
SUPPLY = [5.0, 4.0]
DEMAND = [3.0, 2.0, 4.0]
PLAN = [[3.0, 0.0, 2.0], [0.0, 2.0, 2.0]]
"""Optimal. It uses four routes, so its prices are unique up to a constant."""

TOLERANCE = 1e-9  # for the gap, and for the promise f_i + g_j <= c_ij


@checker
def check(f, g) -> str:
    """Check that `f` (2,) and `g` (3,) prove PLAN optimal: feasible, with no gap. Lists, arrays or tensors will do."""
    if missing(f, g):
        raise Hint(
            "No prices yet. Start with f[0] = 0 (one price is free) and ask what the carrier may charge on the routes "
            "that the plan uses."
        )
    f, g = numbers(f), numbers(g)
    right = f is not None and g is not None and f.shape == (2,) and g.shape == (3,)
    hint_if(not right, "Two numbers for f, one a bakery, and three for g, one a cafe: lists will do.")
    finite = f.isfinite().all() and g.isfinite().all()
    hint_if(not finite, "A price that is not a finite number proves no bound.")
    cost, supply, demand, plan = (torch.tensor(given).double() for given in (COST, SUPPLY, DEMAND, PLAN))
    left = cost - f[:, None] - g  # (2, 3) reduced costs: the promise says that none is negative
    i, j = divmod(int(left.argmin()), 3)
    if -1e-5 < left.min() < -TOLERANCE:
        raise Hint(f"From bakery {i} to cafe {j} they ask {-left.min():.1e} too much. Are your prices in float64?")
    if left.min() < -TOLERANCE:
        raise Hint(
            f"The carrier breaks the promise: from bakery {i} to cafe {j} they ask {f[i] + g[j]:g}, and the route "
            f"costs {COST[i][j]:g}. Such prices prove nothing; which of the two fees is too high?"
        )
    paid, bill = (plan * cost).sum(), f @ supply + g @ demand
    if paid - bill >= TOLERANCE:
        slack = left.masked_fill(plan == 0, 0.0)
        i, j = divmod(int(slack.argmax()), 3)
        raise Hint(
            f"The promise holds, and the bill is {bill:g}; the plan costs {paid:g}, so the gap is {paid - bill:g}. "
            f"The plan sends bread from bakery {i} to cafe {j}, and there the carrier stays {slack[i, j]:g} below the "
            "cost. Can you close that without breaking the promise elsewhere?"
        )
    return (
        f"The bill is {bill:g} and so is the plan's cost: no plan can be cheaper. The four routes in use fix "
        "f_i + g_j = c_ij four times, so of five prices one was yours to choose; the two unused routes had to keep the "
        "promise, and they do: that is what makes the plan optimal."
    )
