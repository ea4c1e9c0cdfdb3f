"""The checker of lesson 01 accepts prices that prove, and says what is wrong with others."""

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linprog

from otalab.lessons import lesson01
from otalab.transport import TransportProblem, solve

F, G = [0.0, 2.0], [4.0, 1.0, 7.0]


def stepping_back(prices):
    return np.array(prices[::-1])[::-1]


def with_gradients(prices):
    return torch.tensor(prices, requires_grad=True)


@pytest.mark.parametrize("shift", [0.0, -3.5, 100.0])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, stepping_back, with_gradients])
def test_prices_that_close_the_gap_pass_whatever_their_constant(shift, kind):
    verdict = lesson01.check(kind([x + shift for x in F]), kind([x - shift for x in G]))
    assert verdict.passed and "50" in verdict.message


def of_otalab():
    solution = solve(TransportProblem(torch.tensor(lesson01.COST), lesson01.SUPPLY, lesson01.DEMAND), "linprog")
    assert torch.equal(solution.plan, torch.tensor(lesson01.PLAN))
    return solution.f, solution.g


def of_pot():
    _, log = ot.emd2(lesson01.SUPPLY, lesson01.DEMAND, np.array(lesson01.COST), log=True)
    return log["u"], log["v"]


def of_scipy():
    """The five sums of the plan as the program's equations; their multipliers are the prices."""
    rows, columns = np.kron(np.eye(2), np.ones(3)), np.kron(np.ones(2), np.eye(3))
    sums = np.concatenate([rows, columns])
    found = linprog(np.ravel(lesson01.COST), A_eq=sums, b_eq=lesson01.SUPPLY + lesson01.DEMAND)
    return np.split(found.eqlin.marginals, [2])


def as_a_program_of_their_own():
    """The largest bill that keeps the promise: the dual itself, with the first price free to choose."""
    promise = np.concatenate([np.kron(np.eye(2), np.ones((3, 1))), np.kron(np.ones((2, 1)), np.eye(3))], axis=1)
    bill = np.array(lesson01.SUPPLY + lesson01.DEMAND)
    found = linprog(-bill, A_ub=promise, b_ub=np.ravel(lesson01.COST), bounds=[(0, 0)] + [(None, None)] * 4)
    return found.x[:2], found.x[2:]


def by_shortest_paths():
    """Bellman and Ford on the routes, and back on those in use: a price is a distance."""
    f, g = [0.0, np.inf], [np.inf] * 3
    for _ in range(5):
        for i in range(2):
            for j in range(3):
                g[j] = min(g[j], f[i] + lesson01.COST[i][j])
                if lesson01.PLAN[i][j]:
                    f[i] = min(f[i], g[j] - lesson01.COST[i][j])
    return [-x for x in f], g


def by_equations():
    """f_i + g_j = c_ij on the four routes in use, by least squares: the fifth price is whichever it likes."""
    used = [(i, j) for i in range(2) for j in range(3) if lesson01.PLAN[i][j]]
    rows = np.array([[x == i for x in range(2)] + [x == j for x in range(3)] for i, j in used], dtype=float)
    found = np.linalg.lstsq(rows, [lesson01.COST[i][j] for i, j in used], rcond=None)[0]
    return tuple(found[:2]), tuple(found[2:])


@pytest.mark.parametrize(
    "prices", [of_otalab, of_pot, of_scipy, as_a_program_of_their_own, by_shortest_paths, by_equations]
)
def test_prices_found_in_any_way_pass(prices):
    verdict = lesson01.check(*prices())
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("f", "g", "hint"),
    [
        ([0, 0], [4, 3, 7], "gap is 4"),  # the cheapest route of each cafe
        ([0, 0], [0, 0, 0], "gap is 50"),
        ([0, 2], [4, 1, 6.999], "gap is 0.004"),
        ([0, 3], [4, 0, 7], "from bakery 1 to cafe 2 they ask 10"),  # bill above the cost
        ([0, 2], [4, 1, 7.001], "breaks the promise"),
        (torch.tensor([0.1, 2.1]), torch.tensor([3.9, 0.9, 6.9]), "float64"),
        ([0, 0], [10, -10, 10], "breaks the promise"),  # a bill that equals the cost proves nothing by itself
        ([0, 2, 0], [4, 1, 7], "Two numbers for f"),
        ([0, 2], [[4, 1, 7]], "Two numbers for f"),
        ([0, float("nan")], [4, 1, 7], "finite"),
        ([0, float("-inf")], [4, 1, 7], "finite"),
    ],
)
def test_a_wrong_answer_gets_a_hint_that_fits(f, g, hint):
    verdict = lesson01.check(f, g)
    assert not verdict.passed and hint in verdict.message


@pytest.mark.parametrize(
    "nonsense", [None, ..., "f", [], {}, 3, [None, 1], ["a", "b"], [[1], [2, 3]], object(), 1j, np.array([1j, 2])]
)
def test_no_answer_and_nonsense_get_a_hint(nonsense):
    for verdict in (lesson01.check(nonsense, G), lesson01.check(F, nonsense), lesson01.check(nonsense, nonsense)):
        assert not verdict.passed and len(verdict.message) > 25
