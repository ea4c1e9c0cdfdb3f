"""Lesson 08: one shortest augmenting path for a gt that has fewer points than it asks for."""

from functools import cache
from itertools import pairwise, permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from otalab.assign.simota import by_price
from otalab.lessons.lesson05 import matched
from otalab.lessons.verdict import ask, checker, hint_if, numbers
from otalab.viz.style import plural

Costs = Float[Tensor, "m n"]
Labels = Int[Tensor, " n"]


@cache
def problems() -> list[tuple[Costs, Labels, int]]:
    """Costs, labels settled by price, and a gt short of points: one case to do by hand, then paths of 1 to 4 steps."""
    tiny = torch.tensor([[1.0, 2.1, 3.0, 8.3, 9.0], [2.0, 6.0, 9.3, 8.0, 9.1]], dtype=torch.float64)
    found = [(tiny, by_price(tiny, torch.tensor([2, 2])), 1)]
    for seed in (10, 9, 36, 14):
        generator = torch.Generator().manual_seed(seed)
        shared = 10 * torch.rand(14, generator=generator, dtype=torch.float64)  # how dear a point is to all gts
        cost = shared + 4 * torch.rand(6, 14, generator=generator, dtype=torch.float64)
        k = torch.randint(1, 4, (6,), generator=generator)
        owner = by_price(cost, k)
        short = (counts_of(owner, 6) < k).nonzero()
        found.append((cost, owner, int(short[-1])))
    return found


def counts_of(owner: Labels, num_gt: int) -> Int[Tensor, " m"]:
    """How many points each gt has."""
    return torch.bincount(owner + 1, minlength=num_gt + 1)[1:]


def fed(cost: Costs, owner: Labels, gt: int) -> Labels:
    """The labels after the shortest path from `gt`: the cheapest that give it one point more and the others as many.

    This requires `owner` to be the cheapest for its own counts. Otherwise there may be something better than a path.
    """
    counts = counts_of(owner, len(cost))
    counts[gt] += 1
    return matched(cost, counts)


def paid(cost: Costs, owner: Labels) -> float:
    """Total cost of the labels; points without a gt cost nothing."""
    taken = (owner >= 0).nonzero().flatten()
    return float(cost[owner[taken], taken].sum())


@checker
def check(answer=None) -> str:
    """Check that `answer(cost, owner, gt)` gives `gt` one point more by the shortest augmenting path."""
    no_function = not callable(answer)
    hint_if(no_function, "The answer is a function: fed(cost, owner, gt) gives the gt of each point, -1 for none.")
    given = []
    for cost, owner, gt in problems():
        labels, (m, n) = ask(answer, "fed(cost, owner, gt)", cost.clone(), owner.clone(), gt), cost.shape
        found = numbers(labels)
        what = type(labels).__name__ if found is None else tuple(found.shape)
        hint_if(what != (n,), f"With costs {(m, n)}, the labels have the shape ({n},), not {what}.")
        hint_if((found != found.round()).any(), f"Labels are whole numbers, not {found.tolist()}.")
        hint_if(((found < -1) | (found >= m)).any(), f"Labels of {m} gts are -1 to {m - 1}, not {found.tolist()}.")
        hint_if(hint := miscount(found.long(), cost, owner, gt), f"With {m} gts and {n} points: {hint}")
        given.append(found.long())
    hint_if(hint := too_dear(given), hint)
    return (
        f"All {len(given)} paths are the shortest, of 1 to 4 steps. Called once for each label that is short, "
        "your function turns labels settled by price into the exact optimum."
    )


def miscount(found: Labels, cost: Costs, owner: Labels, gt: int) -> str | None:
    """What is wrong with the number of points of each gt after a path from `gt`, as a hint; None if nothing is."""
    before, after = (counts_of(labels, len(cost)) for labels in (owner, found))
    robbed = (after < before).nonzero().flatten().tolist()
    if robbed:
        return (
            f"gt {robbed[0]} (counted from 0) has {plural(int(before[robbed[0]]), 'point')} before and "
            f"{after[robbed[0]]} after. Who gives a point away takes another; the path ends where one takes a point "
            "that is nobody's."
        )
    if after[gt] == before[gt]:
        return f"gt {gt} (counted from 0) is as short as before: it has {plural(int(before[gt]), 'point')}."
    if (after - before).sum() > 1:
        more = int((after - before).sum())
        return f"{more} points more are taken. One path gives one point more, to gt {gt} (counted from 0) alone."
    return None


def too_dear(given: list[Tensor]) -> str | None:
    """A hint if labels with the right counts cost more than those after the shortest path, None otherwise."""
    for found, (cost, owner, gt) in zip(given, problems(), strict=True):
        more, least = (paid(cost, labels) - paid(cost, owner) for labels in (found, fed(cost, owner, gt)))
        if more > least + 1e-9:
            said = f"The counts are right, but a path costs {more:.2f} where one of {least:.2f} exists. "
            return said + next((text for text, *way in MISTAKES if all_go(given, *way)), COSTS)
    return None


COSTS = "What does a step cost? The path of the least sum may begin with a dear step."
MISTAKES = [  # hint, most other gts on such a path, and whether a gt that loses a point is refunded its cost
    ("Yours have one step, to the cheapest free point. May gt take a point from another, who then moves?", 0, True),
    ("Yours pass through one other gt at most. How would you find a chain through two?", 1, True),
    ("Who gives a point away no longer pays for it. Does a step count that?", 9, False),
]


def all_go(given: list[Tensor], through: int, refund: bool) -> bool:
    """Whether the labels of all problems are those that `by_steps` finds with these options."""
    return all(
        torch.equal(found, by_steps(*problem, through, refund))
        for found, problem in zip(given, problems(), strict=True)
    )


def by_steps(cost: Costs, owner: Labels, gt: int, through: int, refund: bool = True) -> Labels:
    """Labels after the cheapest path through at most `through` other gts, found by trying all.

    Without `refund`, a gt that gives up a point still pays for it.
    """

    def walk(takers: tuple[int, ...]) -> tuple[float, Labels]:
        """The cost of a path, and the labels after it. Each taker's point is the next one's, the last one's is free."""
        total, labels = 0.0, owner.clone()
        for taker, loser in pairwise((*takers, -1)):
            points = (owner == loser).nonzero().flatten()
            price = cost[taker, points] - (cost[loser, points] if refund and loser >= 0 else 0.0)
            total += float(price.min())
            labels[points[price.argmin()]] = taker
        return total, labels

    others = set(owner.tolist()) - {-1, gt}
    paths = ((gt, *way) for length in range(through + 1) for way in permutations(others, length))
    return min(map(walk, paths), key=lambda found: found[0])[1]
