"""Lesson 02: which marginal is exact after the last half-step, and what does the other order cost?"""

import torch
from torch import Tensor

from otalab.lab.simulate import seeded
from otalab.lessons.verdict import ask, checker, hint_if, whole
from otalab.transport import TransportProblem, TransportSolution, solve

EXACT = 1e-9  # units of goods: float64 does it to 1e-13


def trials() -> list[tuple[str, TransportSolution, float]]:
    """Sinkhorn stopped early, with its eps: a mild problem, one with any demands, one whose kernel is all zero."""
    found = []
    for name, eps, demand in (
        ("eps 0.1, one unit for each column", 0.1, torch.ones(12)),
        ("eps 0.1, 1 to 3 units for each column", 0.1, torch.tensor([1.0, 3, 2, 1, 1, 2, 1, 3, 1, 2, 1, 2])),
        ("eps 0.005, costs near 10", 0.005, torch.ones(12)),
    ):
        cost = torch.rand(3, 12, generator=seeded(2), dtype=torch.float64) + (9.0 if eps < 0.01 else 0.0)
        supply = torch.tensor([2.0, 3.0, float(demand.sum()) - 5.0])
        problem = TransportProblem(cost, supply, demand)
        found.append((name, solve(problem, "sinkhorn", eps=eps, max_iter=2), eps))
    return found


@checker
def check(last_half_step, labels_that_change) -> str:
    """Right: every column receives what it wants, f is as it was, and the prediction is what happens."""
    no_function = not callable(last_half_step)
    hint_if(no_function, "The first argument is your function last_half_step(f, g, cost, supply, demand, eps).")
    changed = 0
    for name, before, eps in trials():
        problem = before.problem
        parts = (before.f, before.g, problem.cost, problem.supply, problem.demand)
        pair = ask(last_half_step, "Your function", *(part.clone() for part in parts), eps)
        hint = fault(before, pair, eps)
        hint_if(hint, f"({name}) {hint}")
        changed += int((potential_plan(problem.cost, *pair, eps).argmax(0) != before.labels).sum())
    guess = whole(labels_that_change)
    well_done = "Columns exact: well done."
    hint_if(guess is None, f"{well_done} Now the prediction: labels_that_change, a whole number.")
    ratio = "Compare two entries of one column before and after your step: what happens to their ratio?"
    hint_if(guess != changed, f"{well_done} But it is not {guess} labels that change. {ratio}")
    return (
        "The last half-step decides which marginal is exact, and yours makes it the columns. It multiplies a column by "
        "one number, so the largest entry stays the largest: no label changes, all of them follow from f alone. "
        "So the argmax of Sec. 3.2 loses nothing by stopping after the rows; the authors' decoding differs (lesson 07)."
    )


def fault(before: TransportSolution, pair, eps: float) -> str | None:
    """What is wrong with the potentials returned, as a hint; None if nothing is."""
    problem = before.problem
    (m, n), demand = problem.shape, problem.demand
    shapes = [tuple(x.shape) if isinstance(x, Tensor) else None for x in pair] if isinstance(pair, tuple | list) else []
    if shapes != [(m,), (n,)]:
        return f"Return the pair f, g: tensors of {m} and of {n} numbers here."
    f, g = pair
    if not (f.isfinite().all() and g.isfinite().all()):
        return "Your potentials are not finite. Do you exponentiate -cost / eps somewhere, all alone?"
    if not torch.allclose(f.double(), before.f, rtol=0, atol=1e-12):
        return "f has moved. One half-step changes one of the two; which of them can put columns right?"
    if torch.equal(g, before.g):
        return "Nothing has changed: the rows are still exact, the columns are off."
    columns = potential_plan(problem.cost, f, g, eps).sum(0)
    worst = (columns - demand).abs().max().item()
    if worst <= EXACT:
        return None
    if (columns.max() - columns.min()).item() <= EXACT:
        return f"Every column sums to {columns[0]:.3g} now, whatever it wants. Where does demand come in?"
    remark = " It is small: is all of it in float64?" if worst < 1e-4 else ""
    return f"The worst column sum is {worst:.2g} off.{remark} Which axis do you sum over, and with which potential?"


def potential_plan(cost: Tensor, f: Tensor, g: Tensor, eps: float) -> Tensor:
    """exp((f_i + g_j - cost_ij) / eps)."""
    return torch.exp((f[:, None].double() + g.double() - cost) / eps)
