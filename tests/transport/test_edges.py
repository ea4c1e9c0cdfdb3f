"""Every method has an answer at the edges: extreme eps, huge and equal costs, half precision."""

import warnings

import pytest
import torch

from otalab.errors import InputError
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


@pytest.mark.parametrize("eps", [1e-310, 1e308])
@pytest.mark.parametrize("method", ENTROPIC_METHODS)
def test_an_eps_that_floats_cannot_divide_by_is_refused_with_its_limits(method, eps):
    with pytest.raises(InputError, match=r"for costs up to 4\.9\d* in float64 eps must be in \[.*\], not 1e"):
        solve(ota_like(), method, eps=eps)


@pytest.mark.parametrize("method", ENTROPIC_METHODS)
def test_the_limits_of_eps_are_those_of_the_costs_and_their_dtype(method):
    problem = ota_like(dtype=torch.float32)
    large = TransportProblem(problem.cost * 1e32, problem.supply, problem.demand)
    if method == "newton":  # in float64 whatever the costs are in
        assert solve(large, method, eps=1e-6, tol=0.0).plan.isfinite().all()
        return
    with pytest.raises(
        InputError, match=r"for costs up to 4\.9\d*e\+32 in float32 eps must be in \[0\.001.*, not 1e-06"
    ):
        solve(large, method, eps=1e-6)
    assert solve(large, method, eps=0.01).plan.isfinite().all()


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
