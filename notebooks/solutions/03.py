"""Lesson 03: a tie without two equal costs."""

import torch

from otalab.lessons import lesson03
from otalab.transport import TransportProblem, solve

# A swap of two points between two rows is free if one point saves what the other pays: c_ij + c_kl = c_il + c_kj.
# If every cost is a row number plus a column number, all swaps are free. Any plan then pays each row number as often
# as the row has supply, and each column number once, so all plans cost the same.
of_row = [0, 10, 30]
of_column = [1, 2, 4, 8]
cost = [[row + column for column in of_column] for row in of_row]
supply = [1, 1, 2]

verdict = lesson03.check(cost, supply)
print(verdict)

# Harder: of all optimal plans, entropy picks the one that is spread most. Here every plan is optimal, so at any eps it
# picks the plan that divides each column in proportion to the supplies: a mixture.
problem = TransportProblem(cost, supply, torch.ones(len(of_column)))
spread = problem.supply[:, None] * problem.demand / problem.demand.sum()
for eps in (1.0, 0.01):
    assert torch.allclose(solve(problem, "newton", eps=eps).plan, spread)
print("newton's plan, at eps 1 as at 0.01:", spread.tolist())
