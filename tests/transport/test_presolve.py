"""Without the slack supplier and with few arcs a problem keeps its optimum, whatever the costs are."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otalab.errors import InputError
from otalab.transport import METHODS, TransportProblem, solve
from otalab.transport.augmenting_path import augmenting_path
from otalab.transport.presolve import by_arcs

from .instances import EXACT, label_problems, ota_like, problems, quick


@quick
@given(problems(whole=True))
def test_whole_supplies_and_demands_of_any_size_are_solved_exactly(problem):
    solution = solve(problem, "augmenting-path")
    assert solution.certificate.is_optimal(EXACT)
    assert solution.objective.item() == pytest.approx(solve(problem, "linprog").objective.item(), rel=EXACT, abs=EXACT)


@quick
@given(label_problems(ties=True), st.integers(0, 3))
def test_any_open_row_may_be_the_slack(problem, row):
    """The last open row is chosen; another one gives another set of arcs and the same optimum."""
    order = torch.roll(torch.arange(problem.shape[0]), row)
    turned = TransportProblem(problem.cost[order], problem.supply[order], problem.demand)
    assert solve(turned, "augmenting-path").objective == solve(problem, "augmenting-path").objective


def test_a_row_that_is_not_open_is_not_the_slack():
    cost = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, torch.inf]])
    solution = solve(TransportProblem(cost, [2.0, 1.0], torch.ones(3)), "augmenting-path")
    assert solution.certificate.is_optimal()
    assert solution.objective == 4.0  # 1 or 2 from row 0 with 3; row 1 takes the dearer of the first two


def test_without_an_open_row_the_error_says_so():
    cost = [[1.0, torch.inf], [torch.inf, 1.0]]
    with pytest.raises(InputError, match=r"may serve every column; the last may not serve column 0"):
        solve(TransportProblem(cost, [1.0, 1.0], [1.0, 1.0]), "augmenting-path")


def test_units_that_are_not_whole_are_an_error():
    with pytest.raises(InputError, match=r"whole units are needed, but supply\[0\] is 0.5; use emd or linprog"):
        solve(TransportProblem(torch.ones(2, 2), [0.5, 1.5], [1.0, 1.0]), "augmenting-path")


def test_routes_that_leave_no_plan_are_an_error():
    cost = torch.ones(2, 3)
    cost[0, 1:] = torch.inf
    with pytest.raises(InputError, match="no plan avoids the forbidden routes"):
        solve(TransportProblem(cost, [2.0, 1.0], torch.ones(3)), "augmenting-path")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_a_loop(dtype):
    batch = ota_like(m=5, n=200, batch=6, dtype=dtype)
    together = solve(batch, "augmenting-path")
    for index in range(6):
        alone = solve(batch[index], "augmenting-path")
        assert torch.equal(together.plan[index], alone.plan)
        assert torch.equal(together.f[index], alone.f)


class Widths:
    """A solver that notes how many arcs a row it was given."""

    def __init__(self):
        self.seen = []

    def __call__(self, problem):
        self.seen.append(problem.cost.shape[1])
        return augmenting_path(problem)


def crowd(rows: int, k: int, columns: int, dtype=torch.float64) -> TransportProblem:
    """All rows want the same few columns first, so that the last to come must look far."""
    generator = torch.Generator().manual_seed(0)
    cost = torch.arange(columns, dtype=dtype).expand(rows, -1) + 1e-3 * torch.rand(rows, columns, generator=generator)
    cost = torch.cat((cost, torch.full((1, columns), 1e4))).to(dtype)
    supply = torch.tensor([k] * rows + [columns - rows * k])
    return TransportProblem(cost, supply, torch.ones(columns))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_prices_do_not_prove_few_arcs_enough_more_are_taken(dtype):
    problem, widths = crowd(20, 10, 3000, dtype), Widths()
    solution = by_arcs(widths)(problem)
    assert len(widths.seen) > 1
    assert widths.seen[-1] < 3000
    assert solution.certificate.is_optimal(EXACT)
    assert solution.labels.tolist()[:200].count(20) == 0  # the first 200 columns go to the rows


def test_few_arcs_are_enough_where_rows_do_not_meet():
    widths = Widths()
    problem = ota_like(m=6, n=2000)
    assert by_arcs(widths)(problem).certificate.is_optimal(EXACT)
    assert widths.seen == [3 + 8]


@pytest.mark.parametrize("constant", [100.0, 1e6])
def test_a_constant_off_the_prior_is_solved_as_it_stands(constant):
    generator = np.random.default_rng(0)
    cost = generator.random((6, 500)) * 5
    inside = generator.random((6, 500)) < 0.02
    cost[:-1] += constant * ~inside[:-1]
    supply = np.array([15, 15, 15, 15, 15, 425])  # more than the prior of a row holds: dear columns must be bought
    problem = TransportProblem(cost, supply, np.ones(500))
    solution = solve(problem, "augmenting-path")
    assert inside[:-1].sum() < 75
    assert solution.certificate.is_optimal(EXACT)
    assert solution.objective.item() == pytest.approx(solve(problem, "emd").objective.item(), rel=EXACT)


def test_nothing_is_wanted_of_some_columns_and_of_all():
    cost = torch.arange(8.0).view(2, 4)
    some = solve(TransportProblem(cost, [1.0, 2.0], [0.0, 3.0, 0.0, 0.0]), "augmenting-path")
    assert some.plan.tolist() == [[0, 1, 0, 0], [0, 2, 0, 0]]
    none = solve(TransportProblem(cost, [0.0, 0.0], torch.zeros(4)), "augmenting-path")
    assert none.plan.tolist() == [[0] * 4] * 2


@pytest.mark.parametrize("name", ["augmenting-path", "auction"])
def test_a_method_by_arcs_shows_its_own_contract(name):
    method = METHODS[name]
    parameters = inspect.signature(method).parameters
    assert parameters["problem"].annotation is TransportProblem
    assert list(parameters)[1:] == list(inspect.signature(method.__wrapped__).parameters)[1:]
    assert "whole supplies and demands" in inspect.getdoc(method)
