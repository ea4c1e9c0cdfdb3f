"""Lesson 05: optimal-transport labels by matching copies."""

import torch
from scipy.optimize import linear_sum_assignment

from otalab.lessons import lesson05


def labels_from_cost(cost, k):
    """Labels (n,) of the cheapest plan; cost (m + 1, n) has the background last, and gt i supplies k[i] labels."""
    over = cost[:-1] - cost[-1]  # (m, n): cost of a gt's label over that of the background's
    owner = torch.arange(len(k)).repeat_interleave(k)  # (sum k,): gt i has k[i] copies, one row each
    copies, points = linear_sum_assignment(over[owner].numpy())  # each copy gets its own point
    labels = torch.full((cost.shape[1],), -1)  # points that are not chosen stay background
    labels[points] = owner[copies]
    return labels


verdict = lesson05.check(labels_from_cost)
print(verdict)


# The harder problem: a second kind of background, the sky, with at most s labels.
def with_sky(cost, k, sky, s):
    """Labels (n,): -1 is the ground, whose costs are the last row of cost (m + 1, n); -2 is the sky, costs sky (n,)."""
    m, n = len(k), cost.shape[1]
    over = torch.cat((cost[:-1], sky[None])) - cost[-1]  # (m + 1, n): the ground is free and needs no row
    owner = torch.arange(m + 1).repeat_interleave(torch.cat((k, torch.tensor([s]))))
    unused = torch.full((len(owner), s), 1e6, dtype=cost.dtype)  # s more columns, for labels that the sky keeps
    unused[owner == m] = 0.0
    copies, points = linear_sum_assignment(torch.cat((over[owner], unused), dim=1).numpy())
    labels = torch.full((n + s,), -1)
    labels[points] = owner[copies]
    return labels[:n].where(labels[:n] < m, -2)


if __name__ == "__main__":
    from otalab.transport import TransportProblem, solve

    generator = torch.Generator().manual_seed(5)
    cost, sky = 4 * torch.rand(4, 20, generator=generator).double(), 2 * torch.rand(20, generator=generator).double()
    k, s, n = torch.tensor([3, 2, 4]), 5, 20
    labels = with_sky(cost, k, sky, s)
    rows = torch.cat((cost[:-1], sky[None], cost[-1:]))  # gts, sky, ground; a last column takes s spare labels
    last = torch.full((5, 1), torch.inf, dtype=torch.float64).index_fill_(0, torch.tensor([3, 4]), 0.0)
    supply = torch.cat((k, torch.tensor([s, n - int(k.sum())])))
    program = solve(TransportProblem(torch.cat((rows, last), dim=1), supply, [1] * n + [s]), method="linprog")
    paid = rows.gather(0, labels.where(labels >= 0, labels + 5)[None]).sum()  # -2 is row 3, -1 row 4
    print(f"with a sky: matching {paid:.6f}, linear program {program.objective:.6f}")
    assert abs(paid - program.objective) < 1e-9
