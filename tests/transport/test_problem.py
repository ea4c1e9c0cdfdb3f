import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch

from benchmarks.device import HostWaits
from otalab.errors import InputError
from otalab.transport import METHODS, TransportProblem, solve
from otalab.transport.methods import EXACT

from .instances import ota_like

INF, NAN = float("inf"), float("nan")


def test_arrays_lists_and_tensors_make_the_same_problem():
    cost, supply, demand = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [1.0, 2.0], [1.0, 1.0, 1.0]
    fields = [(p.cost, p.supply, p.demand) for p in (
        TransportProblem(cost, supply, demand),
        TransportProblem(np.array(cost), np.array(supply), demand),
        TransportProblem(torch.tensor(cost, dtype=torch.float64), np.array(supply), torch.tensor(demand)),
    )]  # fmt: skip
    for three in zip(*fields, strict=True):
        assert all(x.dtype == torch.float64 and torch.equal(x, three[0]) for x in three)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float8_e4m3fn, torch.float32),
        (torch.int64, torch.float64),
    ],
)
def test_cost_decides_the_dtype_and_half_precision_is_widened(given, kept):
    problem = TransportProblem(torch.ones(2, 3).to(given), torch.tensor([1, 2]), np.ones(3, np.float32))
    assert {problem.cost.dtype, problem.supply.dtype, problem.demand.dtype} == {kept}


def test_a_half_precision_cost_keeps_an_exact_background_supply():
    problem = TransportProblem(torch.ones(2, 22_400, dtype=torch.float16), [99, 22_301], torch.ones(22_400))
    assert problem.supply.tolist() == [99, 22_301]


def test_the_problem_is_frozen_detached_and_holds_a_copy_of_an_array():
    array = np.ones((1, 2))
    problem = TransportProblem(array, [2], [1, 1])
    array[:] = 7
    assert problem.cost.tolist() == [[1, 1]]
    assert not TransportProblem(torch.ones(1, 2, requires_grad=True), [2], [1, 1]).cost.requires_grad
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.cost = torch.zeros(1, 2)


def test_read_only_and_reversed_arrays_are_taken():
    array = np.arange(6.0).reshape(2, 3)
    array.flags.writeable = False
    assert TransportProblem(array[::-1], [1, 2], [1, 1, 1]).cost.tolist() == [[3, 4, 5], [0, 1, 2]]


def test_a_batch_shares_marginals_and_gives_back_its_problems():
    batch = TransportProblem(torch.rand(4, 2, 3), [1.0, 2.0], torch.ones(4, 3))
    assert batch.batched and batch.shape == (4, 2, 3) and len(batch) == 4
    assert [one.shape for one in batch] == [(2, 3)] * 4
    assert torch.equal(batch[2].cost, batch.cost[2]) and batch[2].supply.tolist() == [1, 2]
    assert not batch[0].batched
    with pytest.raises(TypeError):
        batch[0][0]
    with pytest.raises(TypeError):
        len(batch[0])


@pytest.mark.parametrize(
    ("cost", "supply", "demand", "message"),
    [
        ([[1, NAN], [1, 1]], [1, 1], [1, 1], r"cost\[0, 1\] is nan"),
        ([[1, 1], [-INF, 1]], [1, 1], [1, 1], r"cost\[1, 0\] is -inf"),
        ([[1, 1], [1, 1]], [3, -1], [1, 1], r"supply\[1\] is -1"),
        ([[1, 1], [1, 1]], [1, 1], [NAN, 1], r"demand\[0\] is nan"),
        ([[1, 1], [1, 1]], [1, 0], [2, -1], r"demand\[1\] is -1"),
        ([[1, 1], [1, 1]], [1, INF], [1, 1], r"supply\[1\] is inf"),
        ([[1] * 86] * 2, [14, 86], [1] * 86, "supply sums to 100 but demand is 86;"),
        ([[[1, 1]], [[1, 1]]], [[2], [3]], [1, 1], "supply sums to 3 but demand is 2 in problem 1"),
        ([[1, INF], [1, INF]], [1, 1], [1, 1], "column 1 wants 1, but all its routes are forbidden"),
        ([[INF, INF], [1, 1]], [1, 1], [1, 1], "row 0 offers 1, but all its routes are forbidden"),
        ([[1, INF], [1, 1]], [2, 0], [1, 1], "column 1 wants 1"),  # the open route leads to a row without supply
        ([1, 2], [1], [1, 1], r"cost must be \(m, n\) or \(B, m, n\), not \(2,\)"),
        ([[1, 2]], [1, 1], [1, 1], r"supply must be \(1,\) for a cost \(1, 2\), not \(2,\)"),
        ([[1, 2]], [2], [2], r"demand must be \(2,\)"),
        (np.ones((0, 2)), [], [1, 1], "supply sums to 0 but demand is 2"),
    ],
)
def test_faults_raise_and_name_the_numbers(cost, supply, demand, message):
    with pytest.raises(InputError, match=message):
        TransportProblem(cost, supply, demand)


def test_sums_may_differ_by_rounding_and_no_more():
    weights = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    demand = weights / weights.sum()
    TransportProblem(torch.zeros(1, 20_000), [1.0], demand)
    with pytest.raises(InputError, match="supply sums to"):
        TransportProblem(torch.zeros(1, 20_000), [1.0], demand * 1.0001)
    with pytest.raises(InputError, match="supply sums to"):
        TransportProblem(torch.zeros(1, 1).double(), [1.0], [1 + 1e-8])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 2, 3), (2, 0, 3)])
def test_empty_problems_are_problems(shape):
    batch, (m, n) = shape[:-2], shape[-2:]
    per_row = 1.0 if 0 in batch else 0.0
    problem = TransportProblem(torch.ones(shape), torch.full((m,), 3 * per_row), torch.full((n,), 2 * per_row))
    assert problem.shape == shape


def test_validation_reads_one_value_from_the_device():
    problem = ota_like(batch=3)
    with HostWaits() as reads:
        TransportProblem(problem.cost, problem.supply, problem.demand)
    assert reads.waits.total() == 1


def test_nothing_is_made_on_the_default_device():
    with torch.device("meta"):
        of_arrays = TransportProblem(np.ones((2, 3)), [1, 2], np.ones(3))
        of_tensors = TransportProblem(of_arrays.cost, [1, 2], [1, 1, 1])
    assert of_arrays.cost.device.type == of_tensors.supply.device.type == "cpu"


BASE = np.random.default_rng(0).uniform(0, 5, (3, 6))


def strided():
    wide = np.zeros((6, 12))
    wide[::2, ::2] = BASE
    return wide[::2, ::2]


def protected():
    array = BASE.copy()
    array.flags.writeable = False
    return array


LAID_OUT = {
    "by columns": lambda: np.asfortranarray(BASE),
    "transposed": lambda: BASE.T.copy().T,
    "big-endian": lambda: BASE.astype(">f8"),
    "little-endian": lambda: BASE.astype("<f8"),
    "read-only": protected,
    "backwards": lambda: BASE[::-1, ::-1].copy()[::-1, ::-1],
    "strided": strided,
    "masked nowhere": lambda: np.ma.array(BASE),
    "objects": lambda: BASE.astype(object),
    "long doubles": lambda: BASE.astype(np.longdouble),
    "tuples": lambda: tuple(map(tuple, BASE)),
    "transposed tensor": lambda: torch.tensor(BASE.T.copy()).T,
    "tensor with gradient": lambda: torch.tensor(BASE, requires_grad=True),
    "fractions": lambda: [[Fraction(value) for value in row] for row in BASE],
}


@pytest.mark.parametrize("layout", LAID_OUT)
def test_the_layout_of_an_array_is_no_part_of_its_value(layout):
    problem = TransportProblem(LAID_OUT[layout](), np.array([2, 2, 2], ">i4"), np.ones(6, np.float32)[::-1])
    assert problem.cost.dtype == torch.float64 and torch.equal(problem.cost, torch.tensor(BASE))
    assert not problem.cost.requires_grad
    best = solve(TransportProblem(BASE, [2, 2, 2], np.ones(6)), "linprog").objective
    for method in METHODS:
        solution = solve(problem, method)
        if method in EXACT:
            assert solution.converged and solution.objective == pytest.approx(best.item())


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "u8", "i1", "i8", ">u4", "?", "f2", ">f4"])
def test_whole_numbers_and_short_floats_of_any_width_are_read(kind):
    cost = (BASE * 10).astype(kind)
    assert torch.equal(TransportProblem(cost, [2, 2, 2], np.ones(6)).cost.double(), torch.tensor(cost.astype(float)))


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (np.ma.array(BASE, mask=BASE > 4), "cost has 6 masked entries; fill them, e.g. with inf in cost"),
        (BASE.astype(complex), "cost must hold real numbers .* not complex128"),
        (BASE.astype(str), "cost must hold real numbers .* not <U"),
        ([[1, 2], [1]], "cost must hold real numbers in rows of equal lengths"),
        ([[10**400, 1]], "int too large to convert to float"),
        (np.array([[np.longdouble("1e4000")]]), "cost holds 1e\\+4000, which float64 cannot"),
        (torch.eye(3).to_sparse(), "dense tensor"),
        (torch.eye(3) * 1j, "complex64"),
        (np.array([["2020-01-01"]], "datetime64[D]"), "not datetime64"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_told(cost, message):
    with pytest.raises(InputError, match=message):
        TransportProblem(cost, [2, 2, 2], np.ones(6))
