"""Lesson 01: prices that prove the plan optimal."""

from math import inf

import torch

from otalab.lab.cases import random_case
from otalab.lessons import lesson01
from otalab.transport import certify

# The bill equals the cost only if the carrier asks exactly the cost of every route on which bread is sent:
#   f0 + g0 = 4,  f0 + g2 = 7,  f1 + g1 = 3,  f1 + g2 = 9.
# There are four equations for five prices, so one price is free. With f0 = 0 the others follow one by one.
f0 = 0
g0 = 4 - f0
g2 = 7 - f0
f1 = 9 - g2
g1 = 3 - f1

# The unused routes must keep the promise too. They do: f0 + g1 = 1 <= 4 and f1 + g0 = 6 <= 8.
verdict = lesson01.check([f0, f1], [g0, g1, g2])
print(verdict)


# Harder: find a ring that saves money, trade along it, and repeat until there is none.
def saving_ring(cost, plan):
    """The suppliers of a ring of negative length, each handing a cafe to the next; None if there is no such ring."""
    m = len(cost)
    w = (cost[None] - cost[:, None]).where(plan[:, None] > 0, inf).amin(2)  # (m, m) cheapest handover from i to k
    f, origin = torch.zeros(m).double(), [None] * m
    for _ in range(m):
        best, via = (f[:, None] + w).min(0)
        shorter = (best < f - 1e-12).nonzero().flatten().tolist()
        if not shorter:
            return None
        for k in shorter:
            f[k], origin[k] = best[k], int(via[k])
    at = shorter[0]
    for _ in range(m):  # a distance that still falls in round m comes from a ring, at most m steps back
        at = origin[at]
    ring = [at]
    while origin[ring[-1]] != at:
        ring.append(origin[ring[-1]])
    return ring[::-1]


def improve(cost, plan):
    """The optimal plan, and how many rings it took."""
    plan, rings = plan.clone(), 0
    while (ring := saving_ring(cost, plan)) is not None:
        trades = list(zip(ring, ring[1:] + ring[:1], strict=True))
        cafes = [int((cost[k] - cost[i]).where(plan[i] > 0, inf).argmin()) for i, k in trades]
        for (i, k), j in zip(trades, cafes, strict=True):
            plan[i, j] -= 1
            plan[k, j] += 1
        rings += 1
    return plan, rings


def greedy(cost, supply):
    """A plan that takes the cheapest route that is left, again and again."""
    plan, left = torch.zeros_like(cost), supply.clone()
    for route in cost.flatten().argsort().tolist():
        i, j = divmod(route, cost.shape[1])
        if left[i] > 0 and plan[:, j].sum() == 0:
            plan[i, j], left[i] = 1, left[i] - 1
    return plan


counts = []
for seed in range(100):
    town = random_case(5, 20, seed=seed).problem
    plan, rings = improve(town.cost, greedy(town.cost, town.supply))
    assert certify(town, plan).is_optimal()
    counts.append(rings)
print(f"all {len(counts)} towns end optimal, after {min(counts)} to {max(counts)} rings")
