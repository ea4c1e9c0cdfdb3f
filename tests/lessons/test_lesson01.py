"""The checker of lesson 01 accepts prices that prove, and says what is wrong with others."""

import numpy as np
import pytest
import torch

from otalab.lessons import lesson01
from otalab.transport import TransportProblem, solve

F, G = [0.0, 2.0], [4.0, 1.0, 7.0]


@pytest.mark.parametrize("shift", [0.0, -3.5, 100.0])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_prices_that_close_the_gap_pass_whatever_their_constant(shift, kind):
    verdict = lesson01.check(kind([x + shift for x in F]), kind([x - shift for x in G]))
    assert verdict.passed and "50" in verdict.message


@pytest.mark.parametrize("method", ["linprog", "emd"])
def test_a_solver_passes_the_exercise(method):
    solution = solve(TransportProblem(torch.tensor(lesson01.COST), lesson01.SUPPLY, lesson01.DEMAND), method)
    assert torch.equal(solution.plan, torch.tensor(lesson01.PLAN))
    assert lesson01.check(solution.f, solution.g).passed


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


@pytest.mark.parametrize("nonsense", [None, ..., "f", [], {}, 3, [None, 1], ["a", "b"], [[1], [2, 3]], object(), 1j])
def test_no_answer_and_nonsense_get_a_hint(nonsense):
    for verdict in (lesson01.check(nonsense, G), lesson01.check(F, nonsense), lesson01.check(nonsense, nonsense)):
        assert not verdict.passed and len(verdict.message) > 25
