import pytest
import torch

from benchmarks.device import HostWaits
from otalab.errors import InputError
from otalab.transport import solve

from .instances import ota_like


@pytest.mark.parametrize("method", ["sinkhorn", "pot-sinkhorn"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "eps must be positive and finite, not 0.0"),
        ({"eps": float("nan")}, "eps must be positive"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1, not 0"),
        ({"tol": -1.0}, "tol must not be negative"),
    ],
)
def test_options_that_make_no_sense_raise(method, options, message):
    with pytest.raises(InputError, match=message):
        solve(ota_like(), method, **options)


def test_check_every_must_be_positive():
    with pytest.raises(InputError, match="check_every must be a whole number of at least 1, not 0"):
        solve(ota_like(), "sinkhorn", check_every=0)


def test_the_loop_reads_nothing_from_the_device_without_a_tolerance():
    problem = ota_like(batch=2)
    with HostWaits() as reads:
        solve(problem, "sinkhorn", max_iter=30)
    assert reads.waits.total() == 0
    with HostWaits() as reads, pytest.warns(UserWarning, match="above tol"):
        solve(problem, "sinkhorn", max_iter=30, tol=1e-15, check_every=10)
    assert 3 <= reads.waits.total() <= 5  # one a check, and the warning with its number
    with HostWaits() as reads:
        problem.cost.sum().item()
    assert reads.waits.total() == 1  # the counter counts


def test_no_tensor_is_made_on_the_default_device():
    problem = ota_like(batch=2)
    with torch.device("meta"):
        solution = solve(problem, "sinkhorn", eps=1.0, tol=1e-3)
        assert solution.plan.device.type == solution.trace.device.type == solution.gap.device.type == "cpu"
        assert solution.certificate.is_optimal(1e-3).device.type == "cpu"
