import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otalab.transport import TransportProblem, certify, solve
from otalab.transport.sinkhorn import log_sum_exp

from .instances import (
    ENTROPIC_SLACK,
    EPS32,
    EXACT,
    EXTREMES,
    SAME_STEPS,
    entropy,
    extreme,
    label_problems,
    ota_like,
    problems,
    quick,
)

INF = float("inf")


@given(problem=problems(), eps=st.sampled_from([10.0, 1.0, 0.1, 0.01]), max_iter=st.sampled_from([1, 2, 50]))
@quick
def test_equal_steps_give_pots_plan_and_potentials(problem, eps, max_iter):
    ours, pots = (solve(problem, method, eps=eps, max_iter=max_iter) for method in ("sinkhorn", "pot-sinkhorn"))
    assert torch.allclose(ours.plan, pots.plan, rtol=0, atol=SAME_STEPS)
    assert torch.allclose(ours.f, pots.f, atol=SAME_STEPS) and torch.allclose(ours.g, pots.g, atol=SAME_STEPS)
    assert problem.supply.sum() == 0 or pots.iterations == ours.iterations == max_iter


def test_one_step_more_or_less_is_not_pots_plan():
    pots = solve(ota_like(), "pot-sinkhorn", max_iter=10).plan
    for max_iter in (9, 11):
        assert (solve(ota_like(), "sinkhorn", max_iter=max_iter).plan - pots).abs().max() > 100 * SAME_STEPS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_two_agree_on_a_batch_in_its_dtype(dtype):
    problem = ota_like(batch=2, dtype=dtype)
    ours, pots = solve(problem, "sinkhorn"), solve(problem, "pot-sinkhorn")
    assert ours.plan.dtype == pots.plan.dtype == ours.f.dtype == pots.f.dtype == dtype
    # 5 / 0.1 = 50 is the largest exponent, and 50 iterations err each by its rounding at most
    atol = SAME_STEPS if dtype == torch.float64 else 50 * 50 * EPS32
    assert torch.allclose(ours.plan, pots.plan, rtol=0, atol=atol)


@given(problem=problems(), eps=st.sampled_from([1.0, 0.1]), max_iter=st.integers(1, 30))
@quick
def test_rows_are_exact_and_the_plan_is_that_of_its_potentials(problem, eps, max_iter):
    solution = solve(problem, "sinkhorn", eps=eps, max_iter=max_iter)
    assert solution.row_error <= EXACT
    exponent = (solution.f[:, None] + solution.g - problem.cost) / eps
    assert torch.allclose(exponent.exp(), solution.plan, rtol=1e-9, atol=1e-12)
    assert (solution.plan[problem.cost.isinf()] == 0).all()
    assert (solution.plan[problem.supply == 0] == 0).all() and (solution.plan[:, problem.demand == 0] == 0).all()


@given(problem=problems(), eps=st.sampled_from([1.0, 0.3, 0.1]), max_iter=st.sampled_from([1, 5, 50]))
@quick
def test_every_iterate_costs_at_most_eps_times_its_excess_entropy_over_the_optimum(problem, eps, max_iter):
    plan = solve(problem, "sinkhorn", eps=eps, max_iter=max_iter).plan
    own = TransportProblem(problem.cost, plan.sum(1), plan.sum(0))
    best = solve(own, "linprog")
    excess = certify(own, plan, best.f).objective - best.objective
    bound = eps * (entropy(plan) - entropy(best.plan))
    slack = ENTROPIC_SLACK * (1 + best.objective.abs() + bound.abs())
    assert -slack <= excess <= bound + slack


def test_the_entropic_bound_rejects_a_plan_that_is_not_sinkhorns():
    problem, eps = ota_like(), 0.1
    best = solve(problem, "linprog")
    product = torch.outer(problem.supply, problem.demand) / problem.supply.sum()
    excess = certify(problem, product).objective - best.objective
    assert excess > eps * (entropy(product) - entropy(best.plan))


@pytest.mark.parametrize("eps", [1.0, 0.3])
def test_a_converged_plan_is_feasible_and_within_the_bound_of_the_optimum(eps):
    problem = ota_like()
    solution = solve(problem, "sinkhorn", eps=eps, max_iter=20_000, tol=1e-11)
    best = solve(problem, "linprog")
    assert solution.converged and solution.col_error <= 1e-11 and solution.iterations < 20_000
    excess = solution.objective - best.objective
    assert 0 < excess <= eps * (entropy(solution.plan) - entropy(best.plan))
    assert solution.dual_objective < best.objective < solution.objective


@given(problem=problems(), eps=st.sampled_from([1.0, 0.01]))
@quick
def test_its_potentials_bound_the_optimum_from_below(problem, eps):
    best = solve(problem, "linprog").objective
    assert solve(problem, "sinkhorn", eps=eps).dual_objective <= best + EXACT * (1 + best.abs())


def test_trace_holds_the_column_error_of_every_tenth_plan():
    problem = ota_like(batch=2)
    trace = solve(problem, "sinkhorn", max_iter=35, check_every=10).trace
    assert trace.shape == (2, 3)
    for k in range(3):
        error = solve(problem, "sinkhorn", max_iter=10 * (k + 1)).col_error
        assert torch.allclose(trace[:, k], error, rtol=1e-6, atol=0)
    assert solve(problem, "sinkhorn", max_iter=5).trace is None


def test_a_tolerance_stops_the_loop_at_the_first_check_that_meets_it():
    problem = ota_like()
    solution = solve(problem, "sinkhorn", eps=1.0, max_iter=1000, tol=1e-6, check_every=7)
    assert solution.converged and solution.iterations % 7 == 0 and solution.trace.shape == (solution.iterations // 7,)
    assert solution.trace[-1] <= 1e-6 < solution.trace[-2]


@pytest.mark.parametrize("method", ["sinkhorn", "pot-sinkhorn"])
def test_a_tolerance_that_is_missed_is_a_field_and_a_warning(method):
    with pytest.warns(UserWarning, match=f"{method}, 12 iterations: col_error .* is above tol 1e-09"):
        solution = solve(ota_like(batch=2), method, max_iter=12, tol=1e-9)
    assert solution.converged.tolist() == [False, False]
    assert solve(ota_like(), method, eps=1.0, max_iter=1000, tol=1e-6).converged
    assert not solve(ota_like(), method).converged  # no tolerance, no claim


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [10.0, 1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("cost", EXTREMES)
def test_extreme_costs_and_eps_give_no_nan(cost, eps, dtype):
    problem = extreme(cost, dtype)
    solution = solve(problem, "sinkhorn", eps=eps)
    assert solution.plan.isfinite().all() and solution.f.isfinite().all() and solution.g.isfinite().all()
    rounding = torch.finfo(dtype).eps * problem.cost.abs().max().item() / eps  # of an exponent
    if rounding < 1e-2:
        assert solution.row_error <= 60 * (10 * rounding + torch.finfo(dtype).eps * 60)


def test_constant_costs_give_the_product_plan():
    problem = TransportProblem(torch.full((3, 4), 1e6).double(), [1, 2, 3], [1, 1, 1, 3])
    solution = solve(problem, "sinkhorn", max_iter=1)
    assert torch.allclose(solution.plan, torch.outer(problem.supply, problem.demand) / 6, rtol=1e-8)
    assert solution.col_error < 1e-8


def test_a_single_row_ships_the_demand():
    problem = TransportProblem([[3.0, -1.0, 1e6]], [6], [1, 2, 3])
    assert torch.allclose(solve(problem, "sinkhorn", max_iter=1).plan, problem.demand[None], rtol=1e-8)


def test_padding_with_zero_units_changes_no_bit_of_the_rest():
    problem = ota_like(m=3, n=16)
    cost = torch.rand(5, 24, dtype=torch.float64)
    cost[:3, :16], cost[4], cost[:, 20] = problem.cost, INF, INF
    supply, demand = torch.zeros(5), torch.zeros(24)
    supply[:3], demand[:16] = problem.supply, problem.demand
    padded = solve(TransportProblem(cost, supply, demand), "sinkhorn")
    assert torch.allclose(padded.plan[:3, :16], solve(problem, "sinkhorn").plan, rtol=1e-12)
    assert padded.plan.sum() == padded.plan[:3, :16].sum()
    assert (padded.f[3:] == -INF).all() and (padded.g[16:] == -INF).all()
    assert padded.certificate.dual_objective <= solve(problem, "emd").objective


def test_nothing_to_ship_gives_the_zero_plan():
    solution = solve(TransportProblem(torch.ones(2, 3), [0, 0], [0, 0, 0]), "sinkhorn", tol=1e-6)
    assert (solution.plan == 0).all() and solution.converged and solution.gap == 0


@given(problem=label_problems(), power=st.integers(-8, 8))
@quick
def test_scaling_eps_with_the_costs_keeps_the_plan(problem, power):
    scale = 2.0**power
    scaled = TransportProblem(problem.cost * scale, problem.supply, problem.demand)
    before, after = solve(problem, "sinkhorn", eps=0.25), solve(scaled, "sinkhorn", eps=0.25 * scale)
    assert torch.equal(before.plan, after.plan)  # powers of two round nothing
    assert torch.equal(before.f * scale, after.f)


@given(problem=label_problems(), data=st.data())
@quick
def test_order_of_rows_and_columns_only_reorders_the_plan(problem, data):
    m, n = problem.shape
    rows, columns = data.draw(st.permutations(range(m))), data.draw(st.permutations(range(n)))
    shuffled = TransportProblem(problem.cost[rows][:, columns], problem.supply[rows], problem.demand[columns])
    plan = solve(problem, "sinkhorn").plan[rows][:, columns]
    assert torch.allclose(solve(shuffled, "sinkhorn").plan, plan, rtol=0, atol=SAME_STEPS)


@given(problem=label_problems(), data=st.data())
@quick
def test_a_constant_added_to_a_column_changes_no_iterate(problem, data):
    n = problem.shape[1]
    shift = torch.tensor(data.draw(st.lists(st.integers(-100, 100), min_size=n, max_size=n))).double()
    shifted = TransportProblem(problem.cost + shift, problem.supply, problem.demand)
    before, after = (solve(p, "sinkhorn", max_iter=3) for p in (problem, shifted))
    assert torch.allclose(before.plan, after.plan, rtol=0, atol=SAME_STEPS)
    assert torch.allclose(before.g + shift, after.g, atol=SAME_STEPS)


def test_a_constant_added_to_a_row_changes_iterates_but_not_the_limit():
    problem = ota_like()
    shift = torch.tensor([5.0, -3.0, 1.0, 0.0]).double()
    shifted = TransportProblem(problem.cost + shift[:, None], problem.supply, problem.demand)
    early = [solve(p, "sinkhorn", eps=1.0, max_iter=1).plan for p in (problem, shifted)]
    late = [solve(p, "sinkhorn", eps=1.0, max_iter=5000, tol=1e-12).plan for p in (problem, shifted)]
    assert (early[0] - early[1]).abs().max() > 0.01
    assert torch.allclose(*late, rtol=0, atol=EXACT)


def test_a_batch_is_solved_like_its_members():
    batch = ota_like(batch=3)
    together = solve(batch, "sinkhorn")
    for i, one in enumerate(batch):
        alone = solve(one, "sinkhorn")
        assert torch.allclose(together.plan[i], alone.plan, rtol=1e-10, atol=1e-14)
        assert torch.allclose(together.f[i], alone.f, rtol=1e-12)


def test_float32_differs_from_float64_by_the_rounding_of_its_exponents():
    problem = ota_like()
    narrow = TransportProblem(problem.cost.float(), problem.supply, problem.demand)
    difference = (solve(narrow, "sinkhorn").plan - solve(problem, "sinkhorn").plan).abs().max()
    assert 1e-9 < difference < 50 * 50 * EPS32  # exponents up to 50, 50 iterations


def test_half_precision_is_computed_in_float32():
    cost = ota_like(dtype=torch.float32).cost.half()
    half, single = (TransportProblem(c, ota_like().supply, torch.ones(60)) for c in (cost, cost.float()))
    assert torch.equal(solve(half, "sinkhorn").plan, solve(single, "sinkhorn").plan)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_raising_tiny_terms_changes_no_sum(dtype):
    x = torch.linspace(-1000, 0, 4000, dtype=dtype).view(4, 1000)
    for dim in (0, 1):
        tolerance = 4 * torch.finfo(dtype).eps
        assert torch.allclose(log_sum_exp(x.clone(), dim), torch.logsumexp(x, dim), rtol=tolerance, atol=tolerance)
    with_infinities = torch.tensor([[-INF, -INF], [-INF, math.log(2.0)]], dtype=dtype)
    assert log_sum_exp(with_infinities, 1)[1] == torch.tensor(math.log(2.0), dtype=dtype)
