"""Lesson 05: from a cost matrix and k to labels, checked against the linear program."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from otalab.lab.cases import random_case, simulated_case
from otalab.lessons.verdict import ask, checker, hint_if, missing, numbers
from otalab.transport import TransportProblem, solve


def problems() -> Iterable[tuple[str, TransportProblem]]:
    """Yield the problems that a right answer solves, with titles: small, large, with k = 0, with forbidden routes."""
    for rows, columns in ((3, 8), (5, 60), (13, 300)):
        yield f"a random problem of {rows - 1} gts and {columns} points", random_case(rows, columns, seed=rows).problem
    problem = random_case(4, 30, seed=7).problem
    supply = problem.supply.clone()
    supply[-1] += supply[0]
    supply[0] = 0
    yield "a random problem whose first gt has k = 0", TransportProblem(problem.cost, supply, problem.demand)
    yield (
        "an image with forbidden routes (cost inf)",
        simulated_case((128, 160), num_gt=6, num_classes=6, seed=3).problem,
    )


@checker
def check(labels_from_cost) -> str:
    """Check that the function turns cost (m + 1, n), background last, and k (m,) into the labels of least total cost.

    Labels are (n,) integers: the gt's index, or -1 for the background.
    """
    nothing, kind = missing(labels_from_cost), type(labels_from_cost).__name__
    hint_if(nothing, "No answer yet: hand in a function of `cost` and `k` that returns one label for each point.")
    hint_if(not callable(labels_from_cost), f"Hand in the function itself, not {kind}: no brackets after its name.")
    asked = list(problems())
    for title, problem in asked:
        k = problem.supply[:-1].long()
        hint = fault(ask(labels_from_cost, f"On {title} it", problem.cost.clone(), k.clone()), problem, k)
        hint_if(hint, f"On {title}: {hint}")
    return (
        f"All {len(asked)} problems are solved at the linear program's cost. Each point gets one label, so its "
        "background cost is part of every plan and may be taken off its column. Then the background is free, and what "
        "is left is to give each of gt i's k_i copies a point of its own. The program has whole-numbered vertices, so "
        "asking for whole labels loses nothing."
    )


def fault(answer, problem: TransportProblem, k: Int[Tensor, " m"]) -> str | None:
    """What is wrong with an answer to one problem, as a hint; None if it is right."""
    m, n = len(k), problem.cost.shape[1]
    if missing(answer):
        return "the function returns nothing yet."
    labels = numbers(answer)
    if labels is None:
        return f"it returns {type(answer).__name__}; labels are a tensor or array of {n} integers."
    if labels.shape != (n,):
        return f"it returns shape {tuple(labels.shape)}; there is one label for each point, so ({n},)."
    if not (labels == labels.long()).all():
        return "labels are whole numbers: the index of a gt, or -1."
    labels = labels.long()
    least, most = int(labels.min()), int(labels.max())
    if least >= -1 and most == m:
        return f"a label is {m}, the background's row; by the convention of `matched_gt` it is -1."
    if not -1 <= least <= most < m:
        hint = f"labels run from {least} to {most}; they must be within -1..{m - 1}."
        return hint + " Is that the number of a gt's copy, not of the gt?" if most < int(k.sum()) else hint
    counts = torch.bincount(labels + 1, minlength=m + 1)[1:]
    for gt in (counts != k).nonzero().flatten().tolist():
        hint = f"gt {gt} supplies {int(k[gt])} labels, and {int(counts[gt])} points have one. "
        if (counts <= k).all():
            return hint + "Do two gts take the same point, or does each row appear once instead of k times?"
        return hint + "A plan ships all that is supplied, and no more (Eq. 1)."
    return wrong_cost(labels, problem, k)


def wrong_cost(labels: Int[Tensor, " n"], problem: TransportProblem, k: Int[Tensor, " m"]) -> str | None:
    """A hint if the labels cost more than the optimum, None otherwise."""
    rows = labels.where(labels >= 0, len(k))
    paid = float(problem.cost.gather(0, rows[None]).sum())
    least = float(solve(problem, method="linprog").objective)
    if paid <= least + 1e-9 * max(1.0, abs(least)):
        return None
    if paid == float("inf"):
        return "the labels use a forbidden route, whose cost is inf."
    hint = f"the sums are right, but the labels cost {paid:.3f}, and {least:.3f} is possible. "
    if torch.equal(labels, matched(problem.cost[:-1], k)):
        return hint + "Your plan is the cheapest for the gts alone. Who pays for the points that they leave?"
    if torch.equal(labels, matched(problem.cost[-1] - problem.cost[:-1], k)):
        return hint + "Look at the sign: is it the gain that you minimise?"
    return hint + "Is each row repeated k times, and are all gts matched in one call, not one after the other?"


def matched(price: Float[Tensor, "m n"], k: Int[Tensor, " m"]) -> Int[Tensor, " n"]:
    """Labels (n,) of the cheapest matching that gives row i k_i columns; -1 for columns that are left over.

    price: the costs of all pairs, in which +-inf counts as +-1e6
    """
    owner = torch.arange(len(k)).repeat_interleave(k)
    copies, points = linear_sum_assignment(price.nan_to_num(posinf=1e6, neginf=-1e6)[owner].numpy())
    labels = torch.full((price.shape[1],), -1)
    labels[torch.from_numpy(points)] = owner[torch.from_numpy(copies)]
    return labels
