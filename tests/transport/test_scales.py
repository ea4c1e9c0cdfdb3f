"""Proofs and refusals hold at every scale of costs and units; no solver keeps quiet about a wrong answer."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otalab.errors import InputError
from otalab.transport import METHODS, TransportProblem, certify, solve
from otalab.transport.methods import EXACT

from .campaign import KINDS, best_of, hard_problem, judge
from .instances import ota_like, quick

TOL = 1e-9  # what `is_optimal` grants unless told otherwise


@pytest.mark.parametrize("number", range(60))
def test_every_exact_method_is_right_refuses_or_owns_up(number):
    problem = hard_problem(number)
    optimum = best_of(problem)
    verdicts = {method: judge(problem, optimum, method) for method in EXACT}
    assert set(verdicts.values()) <= {"right", "refused", "honest"}, (KINDS[number % len(KINDS)], verdicts)
    assert verdicts["augmenting-path"] != "honest"


@given(
    seed=st.integers(0, 10**6),
    price=st.integers(-12, 18),
    spread=st.sampled_from([0, 3, 9, 18]),
    goods=st.integers(-9, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@quick
def test_an_optimal_plan_is_proven_and_one_swap_for_the_worse_is_refused(seed, price, spread, goods, dtype):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.1, 1, (4, 9)) * 10.0 ** (price - rng.integers(0, spread + 1, (4, 9)))
    supply, demand = np.array([2, 1, 3, 3]), np.ones(9)
    whole = TransportProblem(torch.tensor(cost).to(dtype), supply, demand)
    plan = solve(whole, "augmenting-path").plan
    units = 10.0**goods if dtype == torch.float64 else 2.0 ** (3 * goods)
    problem = TransportProblem(whole.cost, supply * units, demand * units)
    right = certify(problem, plan * units)
    assert right.is_optimal()
    labels = plan.argmax(0)
    for a, b in np.argwhere(labels.numpy()[:, None] < labels.numpy())[::5]:
        i, k = labels[a], labels[b]
        more = units * (whole.cost.double()[[i, k], [b, a]].sum() - whole.cost.double()[[i, k], [a, b]].sum())
        swapped = plan.clone()
        swapped[:, [a, b]] = swapped[:, [b, a]]
        for f in (None, right.f):
            wrong = certify(problem, swapped * units, f)
            if more > TOL * wrong.paid + wrong.rounding:
                assert not wrong.is_optimal()


def test_never_at_1e18_hides_no_dearer_plan():
    """Six rows: whoever counts rounding by the largest cost takes 708.2 for 460.4."""
    big = 1e18
    cost = np.full((3, 3), big)
    cost[0, :2], cost[1, :2], cost[2, 2] = (10.0, 20.0), (5.0, 30.0), 1.0
    problem = TransportProblem(cost, [1, 1, 1], [1, 1, 1])
    best = solve(problem, "assignment")
    assert best.objective == 26 and best.certificate.is_optimal()
    worse = best.plan[[1, 0, 2]]
    for f in (None, best.f, np.array([0.0, 1e18, -1e18])):
        certificate = certify(problem, worse, f)
        assert certificate.objective == 41 and not certificate.is_optimal()
    assert certify(problem, best.plan, np.array([0.0, 1e18, 1e17])).paid == 26


def test_prices_too_coarse_to_tell_leave_it_to_exact_arithmetic():
    problem = ota_like()
    plan = solve(problem, "emd").plan
    coarse = solve(problem, "emd").f + 1e17  # float64 keeps them to 16 units
    assert certify(problem, plan, coarse).rounding > 1
    assert certify(problem, plan, coarse).is_optimal()
    assert not certify(problem, plan.roll(1, 1), coarse).is_optimal()


def test_masses_of_float32_that_do_not_sum_alike_are_certified_on_a_right_plan():
    generator = torch.Generator().manual_seed(0)
    for size in (3, 50, 1000):
        supply, demand = (torch.rand(k, generator=generator).softmax(0) for k in (4, size))
        problem = TransportProblem(torch.rand(4, size, generator=generator), supply, demand)
        for method in ("emd", "linprog"):
            solution = solve(problem, method)
            assert solution.converged and solution.certificate.is_optimal()
            lost = solution.plan.clone()
            lost[:, 0] = 0  # a column goes without
            assert not certify(problem, lost, solution.f).is_optimal()


def test_the_sums_are_asked_of_each_row_by_its_own_supply():
    problem = TransportProblem(np.ones((2, 2)), [1e6, 1e-3], [1e6, 1e-3])
    assert certify(problem, np.diag([1e6, 1e-3])).is_optimal()
    assert not certify(problem, np.array([[1e6, 1e-3], [0.0, 0.0]])).is_optimal()  # 1e-9 of all goods, all of a row


@pytest.mark.parametrize("method", EXACT)
def test_an_answer_that_its_certificate_refutes_is_not_converged_and_warned_of(method, monkeypatch):
    def swapped(problem):
        solution = solver(problem)
        plan = solution.plan.clone()
        a, b = (plan[0, row].argmax() for row in (0, 3))
        plan[0][:, [a, b]] = plan[0][:, [b, a]]
        return replace(solution, plan=plan)

    solver = METHODS[method]
    monkeypatch.setitem(METHODS, method, swapped)
    with pytest.warns(UserWarning, match=rf"{method}: its certificate refutes the plan of problem 0 \(gap"):
        solution = solve(ota_like(batch=2), method)
    assert solution.converged.tolist() == [False, True]


def test_a_solver_that_returns_no_numbers_breaks_down_aloud(monkeypatch):
    monkeypatch.setitem(METHODS, "emd", lambda problem: nan_of(METHODS["assignment"](problem)))
    with pytest.raises(RuntimeError, match=r"emd broke down: plan is NaN at \[0, 0\]"):
        solve(ota_like(), "emd")


def nan_of(solution):
    return replace(solution, plan=solution.plan * np.nan)


@pytest.mark.parametrize("number", [861])  # interior points go on for ever
def test_costs_that_highs_cannot_read_end_in_an_error_that_names_their_scale(number):
    with pytest.raises(InputError, match=r"linprog gives no answer: HiGHS met costs from .* to 1e\+1"):
        solve(hard_problem(number), "linprog")


@pytest.mark.parametrize("scale", [1e15, 1e20, 1e30, 1e150, 1e299])
@pytest.mark.parametrize("method", EXACT)
def test_costs_of_one_large_scale_are_solved_and_proven(method, scale):
    problem = ota_like()
    solution = solve(TransportProblem(problem.cost * scale, problem.supply, problem.demand), method)
    assert solution.converged and solution.certificate.is_optimal()
    assert solution.objective == pytest.approx(scale * solve(problem).objective.item())


@pytest.mark.parametrize("method", ["sinkhorn", "pot-sinkhorn", "newton"])
def test_an_entropic_solver_does_not_claim_what_rounding_took_from_it(method):
    problem = ota_like()
    options = {} if method == "newton" else {"tol": 1e-6}
    for scale in (1e12, 1e15, 1e18):
        large = TransportProblem(problem.cost * scale, problem.supply, problem.demand)
        with warnings.catch_warnings(action="ignore"):
            solution = solve(large, method, **options)
        assert solution.plan.isfinite().all()
        assert not solution.converged or (solution.row_error < 1e-3 and solution.col_error < 1e-3)


@pytest.mark.parametrize("units", [1e10, 1e18, 1e200])
@pytest.mark.parametrize("method", ["assignment", "augmenting-path", "auction"])
def test_more_units_than_a_table_holds_are_refused_with_their_number(method, units):
    problem = TransportProblem(np.eye(2), [units, units], [units, units])
    with pytest.raises(InputError, match=rf"a table of .* and {2 * units:.6g} columns".replace("+", r"\+")):
        solve(problem, method)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_costs_that_may_overflow_are_refused_with_their_size(dtype):
    cost = torch.full((2, 2), torch.finfo(dtype).max / 3, dtype=dtype)
    with pytest.raises(InputError, match=r"costs up to 1.13.*e\+38 .* float32|costs up to 5.99.*e\+307 .* float64"):
        TransportProblem(cost, [1, 1], [1, 1])
