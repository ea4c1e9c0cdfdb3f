"""Lesson 02: a problem on which fifty steps at eps 0.4 fail, although no costs are far apart."""

from math import inf

import torch

from otalab.lessons import lesson02
from otalab.transport import TransportProblem, solve

# The first bakery has two loaves and two roads, so it must serve both cafes, and the late shop must serve neither.
# But after t steps the late shop still has a share there, which shrinks as 1 / t, and t is only 50 here.
# The late shop should have many loaves. With few, it would feel what it loses there and give way sooner.
cost = [[0, 0] + [inf] * 10, [0] * 12]
supply = [2, 10]
verdict = lesson02.check(cost, supply)
print(verdict)

# Harder: each of two bakeries has two loaves and three roads, but together they reach only four cafes.
# So the late shop must serve none of the four, and its entries there should be zero.
pair = torch.zeros(3, 20).double()
pair[0, 3:] = pair[1, :1] = pair[1, 4:] = inf
of_pair = torch.tensor([2.0, 2, 16])
harder = lesson02.check(pair, of_pair)
print(harder)
plan = solve(TransportProblem(pair, of_pair, torch.ones(20)), "sinkhorn", eps=0.4, max_iter=50).plan
print("the late shop's shares of the four cafes, which should be 0:", plan[2, :4].tolist())
