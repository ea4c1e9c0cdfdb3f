"""Every row for itself: what assignment is without a plan, on the same arcs, to be compared with one that has it."""

import torch
from torch.nn.functional import pad

from otalab.transport.arcs import ArcProblem, ArcSolution


def independent(problem: ArcProblem) -> ArcSolution:
    """Each row takes its k cheapest columns; one that several take goes to the row that pays least for it.

    Of equal costs the first arc and the first row win. A row that loses a column gets no other in its place, so rows
    may be short that could have more. A row's price is the cost of the dearest column it wished for, 0 if it wished for
    none. Scatters only: nothing waits for the device.
    """
    cost, column, nobody = problem.cost, problem.column.flatten(), len(problem)
    wished = (cost.argsort(dim=1, stable=True).argsort(dim=1) < problem.k[:, None]) & cost.isfinite()
    offer = cost.where(wished, torch.inf)
    least = cost.new_full((problem.num_columns,), torch.inf).scatter_reduce_(0, column, offer.flatten(), "amin")
    lowest = wished & (offer == least[problem.column])
    row = torch.arange(nobody, device=cost.device)[:, None].where(lowest, nobody)
    first = column.new_full((problem.num_columns,), nobody).scatter_reduce_(0, column, row.flatten(), "amin")
    dearest = pad(cost.where(wished, -torch.inf), (0, 1), value=-torch.inf).amax(dim=1)
    return ArcSolution(problem, first.where(first < nobody, -1), dearest.where(dearest > -torch.inf, 0.0))
