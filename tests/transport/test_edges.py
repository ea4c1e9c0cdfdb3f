"""Every method has an answer at the edges: extreme eps, huge and equal costs, half precision."""

import warnings

import pytest
import torch

from otalab.transport import METHODS, TransportProblem, methods, solve

from .instances import EXACT, ota_like

ENTROPIC_METHODS = ("sinkhorn", "pot-sinkhorn", "newton")


def test_the_two_lists_are_all_methods():
    assert set(methods.EXACT + ENTROPIC_METHODS) == set(METHODS)


@pytest.mark.parametrize("eps", [10.0, 1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("method", ENTROPIC_METHODS)
def test_any_eps_gives_finite_figures(method, eps):
    problem = ota_like()
    with warnings.catch_warnings(action="ignore"):  # Newton may miss its tolerance, and says so
        solution = solve(problem, method, eps=eps)
    assert solution.plan.isfinite().all()
    assert solution.objective.isfinite()
    if method == "newton" and eps >= 1e-3:
        assert solution.converged


@pytest.mark.parametrize("value", [-1e6, 0.0, 1e6])
@pytest.mark.parametrize("method", methods.EXACT)
def test_equal_costs_are_solved_and_proven(method, value):
    problem = TransportProblem(torch.full((3, 20), value), [4.0, 6.0, 10.0], torch.ones(20))
    solution = solve(problem, method)
    assert solution.objective == pytest.approx(20 * value)
    assert solution.certificate.is_optimal(EXACT)


@pytest.mark.parametrize("method", methods.EXACT)
def test_a_constant_of_a_million_on_most_routes_is_solved_and_proven(method):
    problem = ota_like()
    far = torch.rand(problem.shape, generator=torch.Generator().manual_seed(1)) < 0.8
    far[-1] = False
    solution = solve(TransportProblem(problem.cost + 1e6 * far, problem.supply, problem.demand), method)
    assert solution.certificate.is_optimal(EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", methods.EXACT)
def test_half_precision_costs_are_solved_as_the_numbers_they_are(method, dtype):
    low = ota_like().cost.to(dtype)
    supply, demand = ota_like().supply, ota_like().demand
    half = solve(TransportProblem(low, supply, demand), method)
    full = solve(TransportProblem(low.double(), supply, demand), "linprog")
    assert half.objective.item() == pytest.approx(full.objective.item(), rel=1e-6)
