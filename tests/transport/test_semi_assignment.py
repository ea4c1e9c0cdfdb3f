"""semi_assign is exact: most labels first, then the least cost; against brute force and against the linear program."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from otalab.errors import InputError
from otalab.transport.semi_assignment import semi_assign


def judge(cost, k, owner):
    """(labels shipped, their cost) of an answer, which must keep to the rules."""
    taken = owner >= 0
    assert owner.shape == (cost.shape[1],)
    assert owner.dtype == np.int64
    assert (np.bincount(owner[taken], minlength=len(k)) <= k).all()
    paid = cost[owner[taken], np.flatnonzero(taken)]
    assert np.isfinite(paid).all()
    return int(taken.sum()), paid.sum()


def brute_force(cost, k):
    """(labels shipped, their cost) of the best of all answers."""
    rows, columns = cost.shape
    best = (0, 0.0)
    for owners in itertools.product(range(-1, rows), repeat=columns):
        owner = np.array(owners, dtype=np.int64)
        taken = owner >= 0
        paid = cost[owner[taken], np.flatnonzero(taken)]
        if np.isfinite(paid).all() and (np.bincount(owner[taken], minlength=rows) <= k).all():
            best = max(best, (int(taken.sum()), -paid.sum()))
    return best[0], -best[1]


@st.composite
def small_problems(draw):
    """Few integers, so that ties, forbidden pairs and rows without their k are common."""
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    entries = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 3.0, np.inf])
    cost = draw(st.lists(entries, min_size=rows * columns, max_size=rows * columns))
    k = draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows))
    return np.array(cost).reshape(rows, columns), np.array(k)


@settings(deadline=None)
@given(small_problems(), st.sampled_from([1e-6, 1.0, 1e6]))
def test_no_answer_ships_more_or_as_much_for_less(problem, scale):
    cost, k = problem[0] * scale, problem[1]
    shipped, paid = judge(cost, k, semi_assign(cost, k))
    best_shipped, best_paid = brute_force(cost, k)
    assert shipped == best_shipped
    assert paid == pytest.approx(best_paid, rel=1e-12, abs=1e-12 * scale)


@pytest.mark.parametrize("seed", range(6))
def test_the_cost_equals_the_linear_programs(seed):
    generator = np.random.default_rng(seed)
    rows, columns = 5, 40
    cost = generator.integers(-3, 4, (rows, columns)).astype(float)  # many ties
    cost[generator.random(cost.shape) < 0.3] = np.inf
    k = generator.integers(1, 7, rows)
    shipped, paid = judge(cost, k, semi_assign(cost, k))
    assert shipped == k.sum()

    row, column = np.nonzero(np.isfinite(cost))
    ships = (row == np.arange(rows)[:, None]).astype(float)
    gets = (column == np.arange(columns)[:, None]).astype(float)
    best = linprog(cost[row, column], A_eq=ships, b_eq=k, A_ub=gets, b_ub=np.ones(columns))
    assert paid == pytest.approx(best.fun, rel=1e-9)


def test_when_not_all_can_be_served_the_cheapest_of_the_largest_answers_is_found():
    cost = np.array([[1.0, np.inf, np.inf], [5.0, 1000.0, np.inf]])
    owner = semi_assign(cost, np.array([1, 1]))
    assert owner.tolist() == [0, 1, -1]  # 1001 for two labels, although one label costs 1


@pytest.mark.parametrize("size", [1e-9, 1e9, 1e15])
def test_a_label_is_never_left_out_to_save_money(size):
    cost = np.array([[-size, size], [np.inf, -size], [size, np.inf]])
    owner = semi_assign(cost, np.array([1, 1, 1]))
    assert (owner >= 0).all()


def test_negative_costs_do_not_make_a_row_ship_more_than_its_k():
    assert (semi_assign(np.full((1, 6), -9.0), np.array([2])) == 0).sum() == 2


def test_equal_rows_get_equal_numbers():
    owner = semi_assign(np.tile(np.arange(8.0), (2, 1)), np.array([3, 3]))
    assert np.bincount(owner[owner >= 0]).tolist() == [3, 3]
    assert (owner[:6] >= 0).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (3, 0)])
def test_nothing_to_assign_leaves_every_column_free(shape):
    assert semi_assign(np.zeros(shape), np.ones(shape[0], dtype=np.int64)).tolist() == [-1] * shape[1]


def test_rows_that_want_nothing_and_rows_that_may_get_nothing_are_left_out():
    cost = np.array([[0.0, 0.0], [np.inf, np.inf]])
    assert semi_assign(cost, np.array([0, 2])).tolist() == [-1, -1]


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_cost_that_means_nothing_is_an_error_that_names_its_place(bad):
    cost = np.zeros((2, 3))
    cost[1, 2] = bad
    with pytest.raises(InputError, match=r"cost is -?(nan|inf) at \(1, 2\)"):
        semi_assign(cost, np.array([1, 1]))


def test_the_input_is_left_as_it_was():
    cost, k = np.array([[1.0, np.inf], [2.0, np.inf]]), np.array([1, 1])
    before = cost.copy(), k.copy()
    semi_assign(cost, k)
    np.testing.assert_array_equal(cost, before[0])
    np.testing.assert_array_equal(k, before[1])
