"""Each row for itself: worked by hand, never more than asked, and the optimum where rows do not meet."""

import torch
from hypothesis import given

from otalab.transport.arcs import ArcProblem
from otalab.transport.augmenting_path import augmenting_path
from otalab.transport.independent import independent

from .instances import quick
from .test_arc_sinkhorn import arc_problems

INF = torch.inf


def dense(cost, k) -> ArcProblem:
    cost = torch.tensor(cost, dtype=torch.float64)
    column = torch.arange(cost.shape[1]).expand(cost.shape)
    return ArcProblem(cost, column, torch.tensor(k), torch.zeros(len(cost), dtype=torch.int64), cost.shape[1])


def test_a_contested_column_goes_to_the_row_that_pays_least_and_nobody_takes_another_for_it():
    found = independent(dense([[1.0, 2.0, 3.0], [0.5, 4.0, 9.0]], [2, 1]))
    assert found.owner.tolist() == [1, 0, -1]  # row 0 keeps one of its two, though column 2 is free
    assert found.deficit.tolist() == [1, 0]
    assert found.price.tolist() == [2.0, 0.5]


def test_of_equal_costs_the_first_row_and_the_first_column_win():
    assert independent(dense([[1.0, 1.0], [1.0, 1.0]], [1, 1])).owner.tolist() == [0, -1]


def test_rows_that_want_nothing_or_have_no_arc_take_nothing():
    found = independent(dense([[1.0, 2.0], [INF, INF]], [0, 2]))
    assert found.owner.tolist() == [-1, -1] and found.price.tolist() == [0.0, 0.0]


@quick
@given(arc_problems())
def test_no_row_gets_more_than_it_wants_and_without_a_contest_the_answer_is_optimal(problem):
    found = independent(problem)
    assert (found.shipped <= problem.k).all()
    assert (found.gap >= -1e-9 * (1 + problem.cost[problem.cost.isfinite()].abs().sum())).all()
    best = augmenting_path(problem)
    if torch.equal(found.shipped, best.shipped):
        assert torch.allclose(found.objective, best.objective)
