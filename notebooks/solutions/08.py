"""Lesson 08: a gt that is short takes a point, the owner of that point takes another, and so on to a free point."""

import torch

from otalab.lessons import lesson08


def fed(cost, owner, gt):
    """The labels after the shortest augmenting path from `gt`, found by Bellman and Ford's algorithm."""
    m, n = cost.shape
    reach = [torch.inf] * m  # for each gt, the cost of the cheapest known chain after which it must take a point
    reach[gt] = 0.0
    step = [None] * m  # the last step of that chain: (taker, point), where the taker took the point from this gt
    for _ in range(m - 1):  # a chain passes through each gt at most once
        for taker in range(m):
            for point in range(n):
                loser = int(owner[point])
                if loser in (-1, taker):
                    continue
                via = reach[taker] + float(cost[taker, point] - cost[loser, point])
                if via < reach[loser] - 1e-12:  # ignores gains by rounding
                    reach[loser], step[loser] = via, (taker, point)
    end = (torch.tensor(reach)[:, None] + cost).masked_fill(owner >= 0, torch.inf)  # (m, n), by taker and free point
    taker, point = divmod(int(end.argmin()), n)
    labels = owner.clone()
    labels[point] = taker
    while taker != gt:  # follow the chain back to `gt`
        taker, point = step[taker]
        labels[point] = taker
    return labels


verdict = lesson08.check(fed)
print(verdict)

# The harder problem: with prices subtracted, no step from labels settled by price costs less than 0. This checks 30
# random crowds.
least = torch.inf
for seed in range(30):
    generator = torch.Generator().manual_seed(seed)
    cost = 10 * torch.rand(6, 20, generator=generator, dtype=torch.float64)
    k = torch.randint(1, 4, (6,), generator=generator)
    owner = lesson08.by_price(cost, k)
    price = cost.sort(dim=1).values.gather(1, k[:, None] - 1)
    points = (owner >= 0).nonzero().flatten()
    step = (cost - price)[:, points] - (cost - price)[owner[points], points]
    least = min(least, float(step.min()))
print(f"the least step: {least:g}")
