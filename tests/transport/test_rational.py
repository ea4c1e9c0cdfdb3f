"""The certificate in fractions: nothing is rounded, and a brute force of fractions agrees."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from otalab.errors import InputError
from otalab.transport import TransportProblem, certify, solve
from otalab.transport.rational import exact_excess, exchanges, shortest_paths, unit_of, whole

from .instances import label_problems, ota_like, quick

any_floats = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


@given(values=hnp.arrays(np.float64, st.integers(1, 6), elements=any_floats))
@quick
def test_whole_numbers_of_a_power_of_two_are_the_floats_they_came_from(values):
    unit = unit_of(values)
    assert [whole(values, unit)[i] * Fraction(2) ** unit for i in range(len(values))] == [Fraction(v) for v in values]


@given(data=st.data())
@quick
def test_the_least_exchange_of_two_rows_is_the_least_of_all_true_differences(data):
    near = st.sampled_from([0.0, 1.0, 1.0 + 2**-52, 1e16, 1e16 + 2, -1e-300, 5e-324, math.inf])
    cost = data.draw(hnp.arrays(np.float64, (3, 5), elements=near | any_floats))
    held = data.draw(hnp.arrays(np.bool_, (3, 5))) & np.isfinite(cost)
    unit = unit_of(cost[np.isfinite(cost)])
    found = exchanges(cost, held, unit)
    for i, k in itertools.permutations(range(3), 2):
        true = [Fraction(cost[k, j]) - Fraction(cost[i, j]) for j in range(5) if held[i, j] and np.isfinite(cost[k, j])]
        assert ((i, k) in found) == bool(true)
        if true:
            column, more = found[i, k]
            assert held[i, column] and more * Fraction(2) ** unit == min(true)


@given(weights=hnp.arrays(np.int64, (4, 4), elements=st.integers(-2, 6)))
@quick
def test_shortest_paths_are_shortest_or_a_negative_cycle_is_shown(weights):
    edges = [(i, k, int(weights[i, k])) for i, k in itertools.permutations(range(4), 2)]
    length, cycle = shortest_paths(4, edges)
    if cycle is not None:
        assert len(set(cycle)) == len(cycle)
        assert sum(weights[i, k] for i, k in zip(cycle, cycle[1:] + cycle[:1], strict=True)) < 0
        return
    walks = itertools.chain.from_iterable(itertools.permutations(range(4), r) for r in (1, 2, 3, 4))
    best = [0] * 4
    for walk in walks:
        best[walk[-1]] = min(best[walk[-1]], sum(weights[i, k] for i, k in itertools.pairwise(walk)))
    assert length == best


@given(problem=label_problems(ties=True, max_n=5))
@quick
def test_the_exact_gap_of_any_labels_is_their_excess_over_the_best_labels(problem):
    m, n = problem.shape
    rows = np.repeat(np.arange(m), problem.supply.int().numpy())
    cost = [[Fraction(c) for c in row] for row in problem.cost.tolist()]
    every = {owner: sum(cost[i][j] for j, i in enumerate(owner)) for owner in set(itertools.permutations(rows))}
    best = min(every.values())
    for owner, paid in list(every.items())[:5]:
        plan = np.zeros((m, n))
        plan[list(owner), np.arange(n)] = 1
        certificate = certify(problem, plan, exact=True)
        assert certificate.objective == paid and certificate.dual_objective == best
        assert certificate.gap == paid - best and certificate.is_optimal() == (paid == best)
        for i, j in itertools.product(range(m), range(n)):
            assert certificate.f[i] + certificate.g[j] <= cost[i][j]


def test_an_optimum_of_an_image_is_exact_and_a_dearer_exchange_shows_its_price_to_the_last_bit():
    problem = ota_like()
    optimum = solve(problem, "emd").plan
    assert certify(problem, optimum, exact=True).is_optimal()
    plan, labels = optimum.clone(), optimum.argmax(0)
    a, b = (labels == 0).nonzero()[0, 0], (labels == 3).nonzero()[0, 0]
    plan[:, [a, b]] = plan[:, [b, a]]
    c = [[Fraction(problem.cost[i, j].item()) for j in (a, b)] for i in (0, 3)]
    certificate = certify(problem, plan, exact=True)
    assert certificate.gap == c[0][1] + c[1][0] - c[0][0] - c[1][1] > 0
    assert not certificate.is_optimal() and "not optimal" in str(certificate)


def test_a_gap_far_below_what_floats_can_see_is_seen():
    problem = TransportProblem([[1.0, 1.0], [1.0, 1.0 - 2**-53]], [1, 1], [1, 1])
    assert certify(problem, np.eye(2)[::-1], exact=True).gap == Fraction(1, 2**53)
    assert certify(problem, np.eye(2), exact=True).is_optimal()
    assert certify(problem, np.eye(2)[::-1]).is_optimal()  # to within 1e-9 it is
    assert not certify(problem, np.eye(2)[::-1]).is_optimal(0.0) and certify(problem, np.eye(2)).is_optimal(0.0)


def test_a_plan_that_misses_its_sums_by_a_bit_is_not_exactly_optimal_and_says_by_how_much():
    problem = TransportProblem([[1.0, 2.0]], [2], [1, 1])
    certificate = certify(problem, [[1.0, 1 - 2**-53]], exact=True)
    assert certificate.row_error == certificate.col_error == Fraction(1, 2**53)
    assert certificate.dual_objective == 3 and not certificate.is_optimal()


def test_a_plan_may_be_dense_negative_or_forbidden():
    problem = TransportProblem([[0.0, np.inf], [1.0, 1.0]], [1, 1], [1, 1])
    dense = certify(ota_like(), solve(ota_like(), "sinkhorn").plan, exact=True)
    assert 0 < dense.col_error < 1 and not dense.is_optimal()
    assert certify(problem, [[0.5, 0.5], [0.5, 0.5]], exact=True).objective == math.inf
    negative = certify(TransportProblem(np.ones((2, 2)), [1, 1], [1, 1]), [[2.0, -1.0], [-1.0, 2.0]], exact=True)
    assert negative.gap == 0 and negative.least_entry == -1 and not negative.is_optimal()


def test_a_batch_gives_a_list_and_nothing_gives_nothing():
    batch = ota_like(batch=2)
    assert [c.is_optimal() for c in certify(batch, solve(batch, "emd").plan, exact=True)] == [True, True]
    empty = TransportProblem(torch.ones(2, 0), [0, 0], [])
    assert certify(empty, torch.ones(2, 0), exact=True).is_optimal()


def test_potentials_are_not_taken_and_an_infeasible_problem_is_told():
    with pytest.raises(InputError, match="finds its own potentials"):
        certify(ota_like(), torch.zeros(4, 60), torch.zeros(4), exact=True)
    inf = math.inf
    tight = TransportProblem([[1.0, inf], [1.0, inf], [1.0, 1.0]], [1.0, 1.0, 1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="no plan avoids the forbidden routes"):
        certify(tight, np.zeros((3, 2)), exact=True)


def test_the_excess_is_that_over_the_cheapest_plan_of_the_same_sums():
    cost = np.array([[1.0, 5.0], [3.0, 2.0]])
    assert exact_excess(cost, np.eye(2)) == 0
    assert exact_excess(cost, np.eye(2)[::-1]) == 5 / 8
    assert exact_excess(cost, 0.5 * np.eye(2)[::-1]) == 5 / 8
    assert exact_excess(np.array([[0.0, 0.0], [1.0, 0.0]]) * 1.0, np.eye(2)) == 0
    assert exact_excess(np.array([[0.0, -1.0], [-1.0, 0.0]]), np.eye(2)) == math.inf  # nothing is paid
