"""The checker of lesson 02 wants a problem that fifty steps do not solve, with costs of 0 to 1 and closed roads."""

from math import inf

import numpy as np
import pytest
import torch

from otalab.lab.cases import simulated_case
from otalab.lessons import lesson02
from otalab.lessons.lesson02 import check, steps_needed, town
from otalab.transport import TransportProblem, solve

FORCED = [[0, 0] + [inf] * 10, [0] * 12]
PAIR = [[0, 0, 0] + [inf] * 17, [inf, 0, 0, 0] + [inf] * 16, [0] * 20]  # two loaves each: together they have no choice
THREE = [[0.5, 1] + [inf] * 18, [inf, inf] + [0.2] * 18, [0.1 * (j % 10) for j in range(20)]]
PARTLY = [[0] * 3 + [inf] * 27, [inf] + [0] * 29]  # the late shop, too, has a closed road
LARGE = [[1] * 10 + [inf] * 30, [0.5] * 40]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_bakery_with_as_many_loaves_as_roads_passes(kind):
    verdict = check(kind(FORCED), kind([2, 10]))
    assert verdict.passed and "supplier 0 has as many loaves" in verdict.message and "1 / t" in verdict.message


@pytest.mark.parametrize(
    ("cost", "supply", "who"),
    [
        (PAIR, [2, 2, 16], "suppliers 0, 1 together"),
        (THREE, [2, 3, 15], "supplier 0"),
        (PARTLY, [3, 27], "supplier 0"),
        (LARGE, [10, 30], "supplier 0"),
        ([row[::-1] for row in FORCED], [2, 10], "supplier 0"),
        (FORCED[::-1], [10, 2], "supplier 1"),
    ],
)
def test_other_problems_that_fail_pass(cost, supply, who):
    verdict = check(cost, supply)
    assert verdict.passed and who in verdict.message, verdict


@pytest.mark.parametrize(
    ("cost", "supply", "hint"),
    [
        ([[0, 1, 0.5], [0.5, 0.5, 0.5]], [1, 2], "All roads are open"),
        ([[0, 0, 0] + [inf] * 9, [0] * 12], [2, 10], "Close one more"),  # a road to spare
        ([[0, 0] + [inf] * 3, [inf, inf] + [0] * 3], [2, 3], "nobody else reaches"),
        ([[0, inf], [0, 0]], [1, 1], "nearly there"),  # the late shop gives way twice as fast
        ([[0, 0] + [inf] * 3, [0] * 5], [3, 2], "more loaves than"),
        ([[0, 90, 0], [90, 0, 90]], [1, 2], "A cost of 90 is not allowed"),
        ([[0, -1, 0], [0, 0, 0]], [1, 2], "A cost of -1 is not allowed"),
        ([[0, float("nan")], [0, 0]], [1, 1], "not a number"),
        ([[inf, 0, 0], [inf, 0, 0]], [1, 2], "No road leads to cafe 0"),
        (FORCED, [2, 9], "sum to 12"),
        (FORCED, [2.5, 9.5], "whole"),
        (FORCED, [2, 9, 1], "2 whole numbers"),
        (FORCED, [12, 0], "at least 1"),
        ([[0, 0]], [2], "1 rows"),
        ([[0] * 41] * 2, [1, 40], "41 columns"),
        ([[0, 1], [0]], [1, 1], "rows of numbers"),
        ("cost", "supply", "rows of numbers"),
        ([], [], "rows of numbers"),
        (7, object(), "rows of numbers"),
    ],
)
def test_a_wrong_answer_gets_the_hint_that_fits(cost, supply, hint):
    verdict = check(cost, supply)
    assert not verdict.passed and hint in verdict.message, verdict


@pytest.mark.parametrize(("cost", "supply"), [(None, None), (FORCED, None), (None, [2, 10]), (..., ...)])
def test_no_answer_gets_a_hint(cost, supply):
    verdict = check(cost, supply)
    assert not verdict.passed and "Two suppliers" in verdict.message


@pytest.mark.parametrize("seed", range(10))
def test_no_problem_with_open_roads_and_costs_of_0_to_1_fails(seed):
    """Birkhoff's bound: an iteration leaves at most 72 % of the spread of the logarithms."""
    generator = torch.Generator().manual_seed(seed)
    cost = torch.rand(4, 20, generator=generator).round(decimals=seed % 2)
    assert "All roads are open" in check(cost, [5, 1, 4, 10]).message


def test_the_odds_of_a_bakery_without_a_choice_grow_by_the_same_number_in_each_step_whatever_the_eps():
    for k, late in ((2, 18), (1, 1), (5, 40)):
        cost = torch.zeros(2, k + late).double()
        cost[0, k:] = inf
        problem = TransportProblem(cost, torch.tensor([k, late]), torch.ones(k + late))
        for eps in (0.4, 0.01):
            plans = [solve(problem, "sinkhorn", eps=eps, max_iter=steps).plan for steps in range(1, 30)]
            odds = torch.stack([plan[0, 0] / plan[1, 0] for plan in plans])
            assert torch.allclose(odds.diff(), torch.full((28,), 1 + k / late, dtype=torch.float64))


@pytest.mark.slow
def test_both_regimes_as_the_lesson_tells_them():
    """Open towns need more at a smaller eps. Images with a gt whose k is its roads: as many at eps 0.4 as at 0.1."""
    for seed in range(30):
        problem = town(seed).problem
        steps = [steps_needed(problem, eps) for eps in (0.4, 0.1, 0.02)]
        assert steps[0] < steps[1] < steps[2]
        image = simulated_case((128, 160), num_gt=6, num_classes=3, seed=seed).problem
        roads = (image.cost[:-1] < inf).sum(1)
        if ((roads == image.supply[:-1]) & (roads > 0)).any():
            assert 95 <= steps_needed(image, 0.4) <= 110 and 95 <= steps_needed(image, 0.1) <= 140


def test_a_town_has_open_roads_and_whole_loaves_that_suffice():
    for seed in range(5):
        made = town(seed, bakeries=3, cafes=20)
        problem = made.problem
        assert problem.shape == (4, 20) and made.suppliers.shape == (4, 2) and made.cafes.shape == (20, 2)
        assert problem.cost.isfinite().all() and problem.supply.sum() == 20 and (problem.supply >= 1).all()
        assert (problem.cost[-1] >= 2).all() and torch.equal(problem.cost, town(seed, 3, 20).problem.cost)


def test_steps_needed_are_the_first_at_which_each_cafe_is_right_to_one_per_cent():
    problem = town(0).problem
    steps = steps_needed(problem, 0.1)
    before, after = (solve(problem, "sinkhorn", eps=0.1, max_iter=count) for count in (steps - 1, steps))
    assert after.col_error <= lesson02.ALLOWED < before.col_error
    assert steps_needed(problem, 0.1, most=steps) == steps
    assert steps_needed(problem, 0.1, most=steps - 1) is None
