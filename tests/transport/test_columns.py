"""Newton leaves columns that a single row may serve out of its loop, and no answer changes."""

import pytest
import torch

from otalab.transport import TransportProblem
from otalab.transport.newton import newton

from .instances import ota_like

INF = float("inf")
SAME_LIMIT = 1e-6  # two converged plans, as in test_newton


def sparse(batch: int, m: int = 20, n: int = 200, seed: int = 0) -> TransportProblem:
    """Each row but the last may serve about one column in 12, and wants three of them."""
    generator = torch.Generator().manual_seed(seed)
    cost = 5 * torch.rand(batch, m, n, generator=generator, dtype=torch.float64)
    shut = torch.rand(batch, m, n, generator=generator) > 0.08
    shut[:, -1] = False
    supply = torch.full((m,), 3.0).index_fill(0, torch.tensor(m - 1), n - 3 * (m - 1))
    return TransportProblem(cost.masked_fill(shut, INF), supply, torch.ones(n))


def test_columns_of_one_route_are_left_out_of_the_loop_and_get_what_they_want(monkeypatch):
    problem, sizes = sparse(batch=3), []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: sizes.append(tuple(x.shape)) or softmax(x, dim))
    plan = newton(problem).plan
    routes = problem.cost.isfinite().sum(1)
    assert set(sizes) == {(3, 20, int((routes > 1).sum(1).max()))}
    assert (plan[:, -1][routes == 1] == 1).all()


def test_the_row_that_is_always_open_may_be_any_or_another_in_each_problem():
    problem = sparse(batch=2)
    order = [19, *range(19)]
    cost, supply = problem.cost.clone(), problem.supply.clone()
    cost[1], supply[1] = cost[1, order], supply[1, order]
    before, after = newton(problem), newton(TransportProblem(cost, supply, problem.demand))
    assert after.converged.all()
    assert torch.allclose(before.plan[0], after.plan[0], rtol=0, atol=SAME_LIMIT)
    assert torch.allclose(before.plan[1, order], after.plan[1], rtol=0, atol=SAME_LIMIT)


@pytest.mark.parametrize("other", [sparse(1, seed=5), ota_like(m=20, n=200), "nothing to ship"])
def test_a_batch_of_few_and_of_many_such_columns_is_solved_as_each_alone(other):
    few = sparse(1)[0]
    if other == "nothing to ship":
        many = TransportProblem(few.cost, 0 * few.supply, 0 * few.demand)
    else:
        many = other[0] if other.batched else other
    both = newton(
        TransportProblem(
            torch.stack((few.cost, many.cost)),
            torch.stack((few.supply, many.supply)),
            torch.stack((few.demand, many.demand)),
        )
    )
    for index, problem in enumerate((few, many)):
        alone = newton(problem)
        assert both.converged[index] and alone.converged
        assert torch.allclose(both.plan[index], alone.plan, rtol=0, atol=SAME_LIMIT)


def test_rows_without_units_leave_a_column_to_the_one_that_has():
    problem = TransportProblem([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0], [INF, 1.0, 1.0]], [0, 1, 2], [1, 1, 1])
    solution = newton(problem)
    assert solution.plan[:, 0].tolist() == [0, 1, 0] and solution.f[0] == -INF and solution.converged
