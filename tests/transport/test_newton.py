import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otalab.assign import AnchorPoints, build_assigner
from otalab.lab.simulate import random_targets, simulate_predictions
from otalab.transport import TransportProblem, solve
from otalab.transport.newton import newton

from .instances import EXACT, EXTREMES, extreme, label_problems, ota_like, problems, quick

INF = float("inf")

# Two converged entropic plans. Newton's rows are within 1e-9 of their supply; near the solution that moves an
# exponent by 1e-9 over the least eigenvalue of the Hessian, some 1e-3 in these problems.
SAME_LIMIT = 1e-6


def tolerant(problem, **options):
    """Newton's answer, whether or not it warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return newton(problem, **options)


def image_problem(seed: int, height: int = 256, width: int = 320, gts: int = 8) -> TransportProblem:
    """OTA's own problem on a simulated image, forbidden routes and all."""
    generator = torch.Generator().manual_seed(seed)
    points = AnchorPoints.for_image((height, width))
    targets = random_targets((height, width), gts, 80, generator)
    predictions = simulate_predictions(points, targets, 80, generator)
    assignment = build_assigner("ota")(points, predictions, targets)
    assert assignment.deficit.sum() == 0
    return TransportProblem(assignment.cost, assignment.supply, torch.ones(len(points)))


@given(problem=problems(), eps=st.sampled_from([10.0, 1.0, 0.3]))
@quick
def test_it_finds_sinkhorns_limit(problem, eps):
    ours = tolerant(problem, eps=eps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = solve(problem, "sinkhorn", eps=eps, max_iter=5000, tol=1e-12, check_every=100)
    if theirs.converged:  # forbidden routes can make Sinkhorn's pace sublinear
        assert ours.converged
        assert torch.allclose(ours.plan, theirs.plan, rtol=0, atol=SAME_LIMIT)


@given(problem=problems(), eps=st.sampled_from([1.0, 0.1, 0.01]))
@quick
def test_columns_are_exact_rows_within_tol_and_the_plan_is_that_of_its_potentials(problem, eps):
    solution = tolerant(problem, eps=eps)
    size = 1 + problem.supply.sum()
    assert solution.col_error <= 1e-14 * size
    if solution.converged:
        assert ((solution.plan.sum(-1) - problem.supply).abs() <= (1e-9 + 1e-12) * problem.supply).all()
    exponent = (solution.f[:, None] + solution.g - problem.cost) / eps
    assert torch.allclose(exponent.exp(), solution.plan, rtol=1e-9, atol=1e-12)
    assert (solution.plan[problem.cost.isinf()] == 0).all()
    assert (solution.plan[problem.supply == 0] == 0).all() and (solution.plan[:, problem.demand == 0] == 0).all()


@given(problem=label_problems(ties=True), eps=st.sampled_from([1.0, 0.1, 0.01]))
@quick
def test_ties_converge(problem, eps):
    solution = newton(problem, eps=eps)
    assert solution.converged
    assert solution.row_error <= 1e-8


@given(problem=problems(forbidden=False))
@quick
def test_a_small_eps_comes_near_the_optimum(problem):
    solution = newton(problem, eps=1e-3, max_iter=200)
    best = solve(problem, "linprog").objective
    assert solution.converged
    entropy = problem.supply.sum() * 4  # H(P) - H(P*) <= goods * log(m n), m n <= 24
    assert -EXACT * (1 + best.abs()) - 1e-7 <= solution.objective - best <= 1e-3 * entropy + 1e-7
    assert solution.dual_objective <= best + EXACT * (1 + best.abs())


def test_images_need_few_steps_and_give_the_exact_labels():
    for seed in range(3):
        problem = image_problem(seed)
        soft = newton(problem, eps=0.1)
        assert soft.converged and soft.iterations <= 16
        assert soft.trace.shape == (soft.iterations,) and soft.trace[-1] <= 1e-9 < soft.trace[-2]
        sharp = newton(problem, eps=1e-3)
        assert sharp.converged and sharp.iterations <= 25
        assert torch.equal(sharp.labels, solve(problem, "assignment").labels)


@pytest.mark.parametrize("m, n", [(1, 7), (20, 25), (20, 20), (5, 200)])
def test_wide_costs_and_a_small_eps_converge(m, n):
    generator = torch.Generator().manual_seed(m)
    cost = 30 * torch.rand(m, n, generator=generator, dtype=torch.float64)
    supply = torch.full((m,), n / m, dtype=torch.float64)
    for eps in (1.0, 0.1, 1e-3):
        solution = newton(TransportProblem(cost, supply, torch.ones(n)), eps=eps)
        assert solution.converged and solution.row_error <= 1e-9 * n / m * 1.01


def test_a_batch_is_solved_like_its_members():
    batch = TransportProblem(
        torch.stack([image_problem(seed, gts=4).cost for seed in range(3)]),
        torch.stack([image_problem(seed, gts=4).supply for seed in range(3)]),
        torch.ones(len(AnchorPoints.for_image((256, 320)))),
    )
    together = newton(batch)
    assert together.converged.all() and together.trace.shape == (3, together.iterations)
    for i, one in enumerate(batch):
        alone = newton(one)
        assert torch.allclose(together.plan[i], alone.plan, rtol=0, atol=SAME_LIMIT)
        f, g = together.f[i], together.g[i]
        assert torch.allclose(f[:, None] + g, alone.f[:, None] + alone.g, rtol=0, atol=SAME_LIMIT)
        assert alone.iterations <= together.iterations


@given(problem=label_problems(), data=st.data())
@quick
def test_order_of_rows_and_columns_only_reorders_the_plan(problem, data):
    m, n = problem.shape
    rows, columns = data.draw(st.permutations(range(m))), data.draw(st.permutations(range(n)))
    shuffled = TransportProblem(problem.cost[rows][:, columns], problem.supply[rows], problem.demand[columns])
    plan = newton(problem, eps=1.0).plan[rows][:, columns]
    assert torch.allclose(newton(shuffled, eps=1.0).plan, plan, rtol=0, atol=SAME_LIMIT)


@given(problem=label_problems(), data=st.data())
@quick
def test_constants_added_to_rows_and_columns_change_no_plan(problem, data):
    m, n = problem.shape
    of_row, of_column = (
        torch.tensor(data.draw(st.lists(st.integers(-50, 50), min_size=k, max_size=k))).double() for k in (m, n)
    )
    shifted = TransportProblem(problem.cost + of_row[:, None] + of_column, problem.supply, problem.demand)
    before, after = newton(problem, eps=1.0), newton(shifted, eps=1.0)
    assert torch.allclose(before.plan, after.plan, rtol=0, atol=SAME_LIMIT)


@given(problem=label_problems(), power=st.integers(-8, 8), goods=st.integers(-8, 8))
@quick
def test_scaling_costs_with_eps_keeps_the_plan_and_scaling_goods_scales_it(problem, power, goods):
    scale = 2.0**power
    scaled = TransportProblem(problem.cost * scale, problem.supply * 2.0**goods, problem.demand * 2.0**goods)
    before, after = newton(problem, eps=0.25), newton(scaled, eps=0.25 * scale)
    assert torch.allclose(before.plan * 2.0**goods, after.plan, rtol=0, atol=SAME_LIMIT * 2.0**goods)
    live = problem.supply > 0  # f + g, for a constant may go from one to the other
    one, other = (answer.f[live][:, None] + answer.g for answer in (before, after))
    assert torch.allclose((one + 0.25 * goods * math.log(2)) * scale, other, rtol=0, atol=SAME_LIMIT * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [10.0, 1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("cost", EXTREMES)
def test_extreme_costs_and_eps_give_no_nan(cost, eps, dtype):
    problem = extreme(cost, dtype)
    solution = tolerant(problem, eps=eps, max_iter=100)
    assert solution.plan.isfinite().all() and solution.f.isfinite().all() and solution.g.isfinite().all()
    assert solution.plan.dtype == solution.f.dtype == solution.g.dtype == torch.float64
    spread = 5.0 if cost in ("unit", "negative") else 5e6 if cost == "million" else 1e6
    if spread / eps * 2.0**-53 < 1e-11:  # rounding of an exponent, well below tol
        assert solution.converged


def test_constant_costs_give_the_product_plan():
    problem = TransportProblem(torch.full((3, 4), 1e6).double(), [1, 2, 3], [1, 1, 1, 3])
    solution = newton(problem)
    assert torch.allclose(solution.plan, torch.outer(problem.supply, problem.demand) / 6, rtol=1e-8)


def test_a_single_row_ships_the_demand_at_once():
    problem = TransportProblem([[3.0, -1.0, 1e6]], [6], [1, 2, 3])
    solution = newton(problem)
    assert torch.equal(solution.plan, problem.demand[None]) and solution.iterations == 0 and solution.converged
    assert solution.trace is None


def test_rows_and_columns_of_zero_units_stay_out():
    cost = torch.tensor([[1.0, 2, 3, INF], [INF, INF, INF, INF], [0, 1, INF, 5], [-9, -9, -9, -9]])
    solution = newton(TransportProblem(cost, [2, 0, 1, 0], [1, 1, 1, 0]), eps=0.5)
    assert solution.converged and (solution.plan[[1, 3]] == 0).all() and (solution.plan[:, 3] == 0).all()
    assert (solution.f[[1, 3]] == -INF).all() and solution.g[3] == -INF
    smaller = newton(TransportProblem(cost[[0, 2]][:, :3], [2, 1], [1, 1, 1]), eps=0.5)
    assert torch.allclose(solution.plan[[0, 2]][:, :3], smaller.plan, atol=SAME_LIMIT)


def test_nothing_to_ship_gives_the_zero_plan():
    for batch in ((), (2,)):
        solution = newton(TransportProblem(torch.ones(*batch, 2, 3), [0, 0], [0, 0, 0]))
        assert (solution.plan == 0).all() and solution.converged.all()


def test_groups_of_rows_that_share_no_column_converge():
    cost = torch.tensor([[1.0, 2, INF, INF, INF], [0, 3, INF, INF, INF], [INF, INF, 1, 2, 0], [INF, INF, 5, 1, 1]])
    solution = newton(TransportProblem(cost, [1, 1, 1.5, 1.5], [1, 1, 1, 1, 1]))
    assert solution.converged and solution.row_error <= 1e-8


def test_more_than_255_rows_are_counted():
    cost = torch.full((300, 300), INF).double()
    cost.diagonal().fill_(0.0)
    cost[:256, 0] = 1.0
    cost[0, :299] = 2.0
    problem = TransportProblem(cost, torch.ones(300), torch.ones(300))
    solution = newton(problem, eps=1.0, max_iter=200)
    assert solution.converged and solution.row_error <= 1e-8 and solution.col_error <= 1e-12
    assert (solution.plan[:256, 0] > 0).all() and solution.plan[299, 299] == 1


def test_an_infeasible_problem_ends_with_a_warning_and_finite_figures():
    cost = torch.tensor([[0.0, INF, INF], [0.0, INF, INF], [1.0, 1.0, 1.0]])
    problem = TransportProblem(cost, [1, 1, 1], [1, 1, 1])
    with pytest.warns(
        UserWarning, match="newton, 50 iterations: row_error .* of the supply is above tol 1e-09"
    ) as told:
        solution = newton(problem)
    assert len(told) == 1 and not solution.converged
    assert solution.plan.isfinite().all() and solution.f.isfinite().all() and solution.g.isfinite().all()


def test_too_few_steps_are_a_field_and_a_warning():
    with pytest.warns(UserWarning, match="newton, 2 iterations"):
        solution = newton(ota_like(batch=2), max_iter=2)
    assert solution.converged.tolist() == [False, False] and solution.trace.shape == (2, 2)
    assert not newton(ota_like(), tol=0.0, max_iter=3).converged  # no tolerance, no claim
