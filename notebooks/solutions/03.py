"""Lesson 03: a tie without two equal costs."""

import torch

from otalab.lessons import lesson03
from otalab.transport import TransportProblem, solve

# A swap is free if what one point saves by it the other pays: c_ij + c_kl = c_il + c_kj.
# Where every cost is a number of the row plus a number of the column, that is so for all swaps,
# and whatever the plan, each row number is paid supply times and each column number once: all plans cost the same.
of_row = [0, 10, 30]
of_column = [1, 2, 4, 8]
cost = [[row + column for column in of_column] for row in of_row]
supply = [1, 1, 2]

verdict = lesson03.check(cost, supply)
print(verdict)

# Harder: of all optimal plans entropy takes the most spread one. Here every plan is optimal, so that is the plan in
# which each column is divided as the supplies are: a mixture, at any eps.
problem = TransportProblem(cost, supply, torch.ones(len(of_column)))
spread = problem.supply[:, None] * problem.demand / problem.demand.sum()
for eps in (1.0, 0.01):
    assert torch.allclose(solve(problem, "newton", eps=eps).plan, spread)
print("newton's plan, at eps 1 as at 0.01:", spread.tolist())
