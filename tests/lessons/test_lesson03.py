"""The checker of lesson 03 wants a tie that is there and that splits solvers; it finds both out by solving."""

import numpy as np
import pytest
import torch

from otalab.lessons import lesson03
from otalab.lessons.lesson03 import check, tied
from otalab.transport import TransportProblem, solve

SPLIT = [[1, 2, 4, 8], [11, 12, 14, 18], [31, 32, 34, 38]]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_costs_of_a_row_number_and_a_column_number_split_the_solvers(kind):
    verdict = check(kind(SPLIT), kind([1, 1, 2]))
    assert verdict.passed and "cost 85" in verdict.message and "trade" in verdict.message


@pytest.mark.parametrize(
    ("cost", "supply"),
    [
        ([[1, 2], [3, 4]], [1, 1]),
        ([[5, 9, 2], [15, 19, 12], [105, 109, 102]], [1, 1, 1]),
        ([[0, 3, 7, 12, 20], [1, 4, 8, 13, 21]], [2, 3]),
        ([[-1, -2, -4], [-11, -12, -14]], [1, 2]),
        ([[1, 2, 50, 60], [3, 4, 70, 90], [31, 41, 5, 6]], [1, 1, 2]),  # only two suppliers trade for nothing
    ],
)
def test_other_ties_pass_too(cost, supply):
    assert check(cost, supply).passed


def test_large_costs_are_told_in_full():
    large = [[entry + 333_300 for entry in row] for row in SPLIT]
    assert f"both cost {85 + 4 * 333_300}," in check(large, [1, 1, 2]).message


@pytest.mark.parametrize(
    ("cost", "supply", "hint"),
    [
        ([[1, 2, 9], [3, 5, 4]], [1, 2], "No tie"),
        ([[1, 1], [2, 3]], [1, 1], "1 is in there 2 times"),
        ([[0, 0, 0], [0, 0, 0]], [1, 2], "in there 6 times"),
        ([[1, 2], [3, 4]], [1, 2], "sum to 2"),
        ([[1, 2], [3, 4]], [2, 0], "at least 1"),
        ([[1, 2], [3, 4]], [1, 1, 0], "2 numbers"),
        ([[1, 2, 3]], [3], "1 rows"),
        ([[1, 2.5], [3, 4]], [1, 1], "whole"),
        ([[1, 2], [3]], [1, 1], "whole"),
        ([[1, float("inf")], [3, 4]], [1, 1], "whole"),
        ([[1, 2], [3, 4e9]], [1, 1], "million"),
        ("tie", "split", "whole"),
        ([], [], "whole"),
        (7, object(), "whole"),
    ],
)
def test_a_wrong_answer_gets_the_hint_that_fits(cost, supply, hint):
    verdict = check(cost, supply)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize(("cost", "supply"), [(None, None), (SPLIT, None), (None, [1, 1, 2]), (..., ...)])
def test_no_answer_gets_a_hint(cost, supply):
    verdict = check(cost, supply)
    assert not verdict.passed and "how many plans" in verdict.message


def test_a_tie_that_no_solver_splits_is_told_from_no_tie(monkeypatch):
    monkeypatch.setattr(lesson03, "EXACT", ("emd",))
    assert "there is a tie" in check(SPLIT, [1, 1, 2]).message
    assert "No tie" in check([[1, 2, 9], [3, 5, 4]], [1, 2]).message


def test_a_tie_is_found_where_two_plans_cost_the_same():
    for cost, expected in (([[1, 2], [3, 4]], True), ([[1, 2], [3, 5]], False)):
        problem = TransportProblem(torch.tensor(cost).double(), [1, 1], [1, 1])
        assert tied(problem, solve(problem, "emd")) is expected
