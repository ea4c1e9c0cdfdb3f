import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from otalab.errors import InputError
from otalab.transport import solve

from .instances import EXACT, HostReads, ota_like, problems, quick

INF = float("inf")


@pytest.mark.parametrize("method", ["sinkhorn", "pot-sinkhorn"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "eps must be positive and finite, not 0.0"),
        ({"eps": float("nan")}, "eps must be positive"),
        ({"max_iter": 0}, "max_iter must be at least 1, not 0"),
        ({"tol": -1.0}, "tol must not be negative"),
    ],
)
def test_options_that_make_no_sense_raise(method, options, message):
    with pytest.raises(InputError, match=message):
        solve(ota_like(), method, **options)


def test_check_every_must_be_positive():
    with pytest.raises(InputError, match="check_every must be at least 1, not 0"):
        solve(ota_like(), "sinkhorn", check_every=0)


def test_the_loop_reads_nothing_from_the_device_without_a_tolerance():
    problem = ota_like(batch=2)
    with HostReads() as reads:
        solve(problem, "sinkhorn", max_iter=30)
    assert reads.count == 0
    with HostReads() as reads, pytest.warns(UserWarning, match="above tol"):
        solve(problem, "sinkhorn", max_iter=30, tol=1e-15, check_every=10)
    assert 3 <= reads.count <= 5  # one a check, and the warning with its number
    with HostReads() as reads:
        problem.cost.sum().item()
    assert reads.count == 1  # the counter counts


def test_no_tensor_is_made_on_the_default_device():
    problem = ota_like(batch=2)
    with torch.device("meta"):
        solution = solve(problem, "sinkhorn", eps=1.0, tol=1e-3)
        assert solution.plan.device.type == solution.trace.device.type == solution.gap.device.type == "cpu"
        assert solution.certificate.is_optimal(1e-3).device.type == "cpu"


@given(problem=problems(), relaxation=st.sampled_from([1.3, 1.7]), anneal=st.sampled_from([None, 1.0, 5.0]))
@quick
def test_a_faster_pace_keeps_the_rows_exact_and_the_plan_that_of_its_potentials(problem, relaxation, anneal):
    for max_iter in (1, 7, 30):
        solution = solve(problem, "sinkhorn", eps=0.3, max_iter=max_iter, relaxation=relaxation, anneal=anneal)
        assert solution.row_error <= EXACT and solution.iterations == max_iter
        exponent = (solution.f[:, None] + solution.g - problem.cost) / 0.3
        assert torch.allclose(exponent.exp(), solution.plan, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{"relaxation": 1.5}, {"anneal": 5.0}, {"relaxation": 1.5, "anneal": 5.0}])
def test_a_faster_pace_has_the_same_limit(options):
    problem = ota_like(batch=2)
    wanted = solve(problem, "sinkhorn", eps=0.3, max_iter=20_000, tol=1e-11)
    found = solve(problem, "sinkhorn", eps=0.3, max_iter=20_000, tol=1e-11, **options)
    assert found.converged.all() and torch.allclose(found.plan, wanted.plan, rtol=0, atol=EXACT)


def test_relaxation_and_annealing_come_nearer_in_as_many_iterations():
    problem = ota_like()
    plain, relaxed = (solve(problem, "sinkhorn", max_iter=100, relaxation=omega) for omega in (1.0, 1.5))
    assert relaxed.col_error < 1e-2 * plain.col_error
    plain, annealed = (solve(problem, "sinkhorn", eps=0.01, max_iter=100, anneal=anneal) for anneal in (None, 1.0))
    assert annealed.col_error < 0.5 * plain.col_error


def test_no_stopping_test_is_met_before_annealing_has_come_to_eps():
    problem = ota_like()
    solution = solve(problem, "sinkhorn", eps=1.0, anneal=1e3, max_iter=200, tol=1e-3, check_every=1)
    assert solution.converged and solution.iterations > 30  # 0.8 ** 30 > 1e-3
    cut = solve(problem, "sinkhorn", eps=1.0, anneal=1e3, max_iter=5)
    assert cut.row_error <= EXACT and (cut.plan > 0).all()


@pytest.mark.parametrize("options", [{"relaxation": 1.0}, {"anneal": 0.1}])
def test_the_plain_pace_is_the_default_to_the_bit(options):
    problem = ota_like(batch=2)
    default, spelt = solve(problem, "sinkhorn"), solve(problem, "sinkhorn", **options)
    assert torch.equal(default.plan, spelt.plan) and torch.equal(default.trace, spelt.trace)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relaxation": 2.0}, "relaxation must be at least 1 and below 2, not 2.0"),
        ({"relaxation": 0.9}, "relaxation must be at least 1"),
        ({"anneal": 0.01}, "anneal must be finite and at least eps, 0.1, not 0.01"),
        ({"anneal": INF}, "anneal must be finite"),
    ],
)
def test_a_pace_that_makes_no_sense_raises(options, message):
    with pytest.raises(InputError, match=message):
        solve(ota_like(), "sinkhorn", **options)
