import pytest
import torch

from benchmarks.device import HostWaits
from otalab.errors import InputError
from otalab.transport import TransportProblem
from otalab.transport.newton import newton

from .instances import ota_like


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, "eps must be positive and finite, not 0.0"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1, not 0"),
        ({"tol": -1.0}, "tol must not be negative"),
    ],
)
def test_options_that_make_no_sense_raise(options, message):
    with pytest.raises(InputError, match=message):
        newton(ota_like(), **options)


def test_the_loop_reads_one_flag_a_step():
    for problem in (ota_like(), ota_like(batch=2)):
        with HostWaits() as reads:
            solution = newton(problem)
        assert solution.iterations < reads.waits.total() <= solution.iterations + 5


def test_no_tensor_is_made_on_the_default_device():
    for problem in (ota_like(batch=2), ota_like(), TransportProblem(torch.ones(2, 2), [1, 0], [0, 1])):
        with torch.device("meta"):
            solution = newton(problem)
            assert {x.device.type for x in (solution.plan, solution.f, solution.g, solution.converged)} == {"cpu"}
