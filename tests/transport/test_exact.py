import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otalab.errors import InputError
from otalab.transport import TransportProblem, certify, solve
from otalab.transport.exact import prices

from .instances import EXACT, label_problems, ota_like, problems, quick

INF = float("inf")


def assert_agrees(problem, solution, best):
    """The optimum's cost, and its own proof of it."""
    goods, price = problem.supply.double().sum(), problem.cost.masked_fill(problem.cost.isinf(), 0).abs().max().double()
    assert (solution.objective - best).abs() <= EXACT * best.abs() + 1e-14 * goods * price  # for optima of 0
    assert solution.certificate.is_optimal(EXACT) and solution.converged
    assert solution.plan.dtype == solution.f.dtype == torch.float64
    assert solution.plan.shape == problem.shape and (solution.plan >= 0).all()
    f, g = solution.f, solution.g  # as they are, not mended by a c-transform
    trading = (problem.supply > 0)[..., :, None] & (problem.demand > 0)[..., None, :]
    slack = (problem.cost - f[..., :, None] - g[..., None, :])[trading]
    assert (slack >= -1e-9 * price).all()
    assert ((f * problem.supply).sum() + (g * problem.demand).sum() - best).abs() <= EXACT * (
        best.abs() + goods * price
    )


@given(problem=problems())
@quick
def test_linprog_and_emd_agree_and_each_certifies_itself(problem):
    best = solve(problem, "linprog")
    assert_agrees(problem, best, best.objective)
    assert_agrees(problem, solve(problem, "emd"), best.objective)


@given(problem=problems(whole=True))
@quick
def test_assignment_agrees_on_whole_units_and_certifies_itself(problem):
    solution = solve(problem, "assignment")
    assert_agrees(problem, solution, solve(problem, "linprog").objective)
    assert torch.equal(solution.plan, solution.plan.round())
    assert solution.row_error == 0 and solution.col_error == 0


@given(problem=label_problems(ties=True, max_n=6))
@quick
def test_all_three_find_the_optimum_that_enumeration_finds_among_ties(problem):
    labels = np.repeat(np.arange(problem.shape[0]), problem.supply.int().numpy())
    cost, columns = problem.cost.numpy(), np.arange(problem.shape[1])
    best = min(cost[list(owner), columns].sum() for owner in set(itertools.permutations(labels.tolist())))
    for method in ("linprog", "emd", "assignment"):
        assert_agrees(problem, solve(problem, method), torch.tensor(best))


@given(problem=label_problems(), data=st.data())
@quick
def test_order_of_rows_and_columns_does_not_matter(problem, data):
    m, n = problem.shape
    rows, columns = data.draw(st.permutations(range(m))), data.draw(st.permutations(range(n)))
    shuffled = TransportProblem(problem.cost[rows][:, columns], problem.supply[rows], problem.demand[columns])
    for method in ("linprog", "emd", "assignment"):
        plan = solve(shuffled, method).plan
        back = torch.empty_like(plan)
        back[np.ix_(rows, columns)] = plan
        assert certify(problem, back).is_optimal(EXACT)


@given(problem=problems(whole=True, forbidden=False), shift=st.lists(st.integers(-1000, 1000), min_size=4, max_size=4))
@quick
def test_a_constant_added_to_a_row_moves_the_optimum_by_its_supply_and_keeps_the_plan(problem, shift):
    shift = torch.tensor(shift[: problem.shape[0]]).double()
    shifted = TransportProblem(problem.cost + shift[:, None], problem.supply, problem.demand)
    for method in ("linprog", "emd", "assignment"):
        before, after = solve(problem, method), solve(shifted, method)
        expected = before.objective + (shift * problem.supply).sum()
        assert (after.objective - expected).abs() <= EXACT * (1 + (shift.abs() * problem.supply).sum())
        assert certify(problem, after.plan).is_optimal(EXACT)


@pytest.mark.parametrize("method", ["linprog", "emd"])
@pytest.mark.parametrize("goods", [1e-12, 1.0, 1e4])
@pytest.mark.parametrize("price", [1e-9, 1.0, 1e6, 1e9])
def test_units_of_cost_and_goods_do_not_matter(method, price, goods):
    problem = ota_like()
    scaled = TransportProblem(problem.cost * price, problem.supply * goods, problem.demand * goods)
    solution = solve(scaled, method)
    assert_agrees(scaled, solution, solve(problem, "assignment").objective * price * goods)
    assert solution.relative_gap.abs() <= EXACT


@pytest.mark.parametrize("method", ["linprog", "emd", "assignment"])
def test_a_constant_of_a_million_on_most_routes_changes_nothing(method):
    problem = ota_like()
    best = solve(problem, method)
    outside = (best.plan == 0) & (problem.cost > 1)
    outside[-1] = False
    dear = TransportProblem(problem.cost + 1e6 * outside, problem.supply, problem.demand)
    assert_agrees(dear, solve(dear, method), best.objective)


@pytest.mark.parametrize("method", ["linprog", "emd", "assignment"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_solved_like_its_members_and_certified_in_float64(method, dtype):
    batch = ota_like(batch=3, dtype=dtype)
    together = solve(batch, method)
    assert together.converged.tolist() == [True] * 3
    assert (together.relative_gap.abs() <= EXACT).all() and together.certificate.is_optimal(EXACT).all()
    for i, one in enumerate(batch):
        assert torch.equal(together.plan[i], solve(one, method).plan)


@pytest.mark.parametrize("method", ["linprog", "emd", "assignment"])
def test_nothing_to_ship_and_one_row_are_defined(method):
    nothing = solve(TransportProblem(torch.ones(2, 3), [0, 0], [0, 0, 0]), method)
    assert nothing.plan.sum() == 0 and nothing.certificate.is_optimal()
    one_row = solve(TransportProblem([[1.0, -2.0, 3.0]], [4], [1, 2, 1]), method)
    assert one_row.plan.tolist() == [[1, 2, 1]] and one_row.objective == 0 and one_row.certificate.is_optimal()


@pytest.mark.parametrize("method", ["linprog", "emd", "assignment"])
def test_forbidden_routes_that_leave_no_plan_raise(method):
    cost = torch.rand(3, 6).double()
    cost[:2, 3:] = INF  # two rows of two units, three columns
    problem = TransportProblem(cost, [2, 2, 2], torch.ones(6))
    with pytest.raises(InputError, match="no plan avoids the forbidden routes"):
        solve(problem, method)
    batch = TransportProblem(torch.stack([torch.ones(3, 6).double(), cost]), [2, 2, 2], torch.ones(6))
    with pytest.raises(InputError, match="problem 1: no plan avoids"):
        solve(batch, method)


@pytest.mark.parametrize(
    ("cost", "supply", "demand", "message"),
    [
        (np.ones((2, 2)), [0.5, 1.5], [1, 1], r"whole units are needed, but supply\[0\] is 0.5"),
        (np.ones((2, 2)), [1, 1], [0.75, 1.25], r"whole units are needed, but demand\[0\] is 0.75"),
        ([[1, 1], [1, INF]], [1, 1], [1, 1], r"cost\[-1, 1\] is inf"),
        (np.ones((2, 1), np.float32), [1e6, 7.0], [1e6], "supply sums to 1000007 and demand to 1000000"),
    ],
)
def test_assignment_says_what_it_cannot_solve(cost, supply, demand, message):
    with pytest.raises(InputError, match=message):
        solve(TransportProblem(cost, supply, demand), "assignment")


def test_a_closed_last_row_is_fine_where_nothing_is_wanted():
    problem = TransportProblem([[1.0, 5.0], [2.0, INF]], [1, 1], [2, 0])
    assert solve(problem, "assignment").certificate.is_optimal()


def test_prices_prove_an_optimum_and_nothing_else():
    problem = ota_like()
    cost, plan = problem.cost.numpy(), solve(problem, "linprog").plan.numpy()
    assert certify(problem, plan, prices(cost, plan)[0]).is_optimal()
    worse = plan.copy()
    a, b = plan[0].argmax(), plan[3].argmax()
    worse[:, [a, b]] = worse[:, [b, a]]
    certificate = certify(problem, worse, prices(cost, worse)[0])
    assert certificate.row_error == 0 and certificate.gap > 0 and not certificate.is_optimal()


def test_too_few_pivots_are_a_field_and_a_warning():
    with pytest.warns(UserWarning, match="numItermax"):
        solution = solve(ota_like(), "emd", max_iter=3)
    assert not solution.converged and not solution.certificate.is_optimal()
    with pytest.raises(InputError, match="max_iter must be a whole number of at least 1"):
        solve(ota_like(), "emd", max_iter=0)


def test_answers_stay_on_the_problems_device_whatever_the_default():
    problem = ota_like(batch=2)
    with torch.device("meta"):
        for method in ("linprog", "emd", "assignment"):
            solution = solve(problem, method)
            assert solution.plan.device.type == solution.gap.device.type == "cpu"
