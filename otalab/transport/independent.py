"""A baseline without a plan, on the same arcs: each row takes its cheapest columns on its own."""

import torch
from torch.nn.functional import pad

from otalab.transport.arcs import ArcProblem, ArcSolution, highest_offers


def independent(problem: ArcProblem) -> ArcSolution:
    """Give each row its k cheapest columns; a column that several rows take goes to the one that pays least for it.

    Where costs are equal, the first arc and the first row win. A row that loses a column gets no other in its place, so
    it may end with fewer columns than it could have. A row's price is the cost of the dearest column that it tried to
    take, 0 if there was none. Uses scatters only, so nothing waits for the device.
    """
    cost = problem.cost
    wished = (cost.argsort(dim=1, stable=True).argsort(dim=1) < problem.k[:, None]) & cost.isfinite()
    owner, _ = highest_offers(cost.neg().where(wished, -torch.inf), problem.column, problem.num_columns)
    dearest = pad(cost.where(wished, -torch.inf), (0, 1), value=-torch.inf).amax(dim=1)
    return ArcSolution(problem, owner, dearest.where(dearest > -torch.inf, 0.0))
