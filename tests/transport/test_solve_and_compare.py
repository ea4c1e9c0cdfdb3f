import dataclasses
import doctest
import json

import pytest
import torch

import otalab.transport
from otalab.errors import InputError
from otalab.transport import METHODS, TransportProblem, certify, compare, solve

from .instances import EXACT, ota_like


def test_the_tour_runs_as_printed():
    result = doctest.testmod(otalab.transport)
    assert result.attempted >= 10 and result.failed == 0


def test_the_contract_names_these_methods():
    assert set(METHODS) >= {
        "linprog",
        "emd",
        "assignment",
        "augmenting-path",
        "auction",
        "sinkhorn",
        "newton",
        "pot-sinkhorn",
    }


@pytest.mark.parametrize("method", [*METHODS])
def test_every_method_fills_the_contract(method):
    problem = ota_like(batch=2)
    solution = solve(problem, method)
    assert solution.plan.shape == problem.shape and solution.seconds > 0
    assert solution.f.shape == problem.supply.shape and solution.g.shape == problem.demand.shape
    assert torch.equal(solution.labels, solution.plan.argmax(1))
    certificate = certify(problem, solution.plan, solution.f)
    for name in ("objective", "dual_objective", "gap", "relative_gap", "row_error", "col_error"):
        assert torch.equal(getattr(solution, name), getattr(certificate, name)) and getattr(solution, name).shape == (
            2,
        )


@pytest.mark.parametrize("method", [*METHODS])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 2, 3), (2, 0, 3)])
def test_every_method_solves_an_empty_problem(method, shape):
    problem = TransportProblem(torch.ones(shape), torch.zeros(shape[-2]), torch.zeros(shape[-1]))
    solution = solve(problem, method)
    assert solution.plan.shape == shape and solution.converged.all() and (solution.gap == 0).all()
    assert solution.labels.shape == solution.g.shape and (solution.labels == (-1 if shape[-2] == 0 else 0)).all()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("sinkhron", {}, "no method 'sinkhron'; did you mean 'sinkhorn'. it has linprog, emd"),
        ("sinkhorn", {"max_iters": 5}, "sinkhorn has no option 'max_iters'; did you mean 'max_iter'. it has eps, max_"),
        ("linprog", {"eps": 0.1}, "linprog has no option 'eps'; it has none"),
    ],
)
def test_unknown_names_raise_with_the_nearest_known_one(method, options, message):
    with pytest.raises(InputError, match=message):
        solve(ota_like(), method, **options)


@pytest.mark.parametrize(
    ("method", "option"),
    [
        *((method, "max_iter") for method in ("emd", "sinkhorn", "pot-sinkhorn", "newton")),
        ("sinkhorn", "check_every"),
        ("auction", "max_rounds"),
        ("auction", "check_every"),
    ],
)
def test_a_count_below_one_is_named(method, option):
    with pytest.raises(InputError, match=f"{option} must be a whole number of at least 1, not 0"):
        solve(ota_like(), method, **{option: 0})


def test_a_comparison_sets_every_method_beside_the_reference():
    problem = ota_like()
    table = compare(problem, ("emd", "linprog", "sinkhorn", ("sinkhorn", {"eps": 0.01, "max_iter": 5})), repeats=1)
    assert [row.method for row in table.rows] == ["linprog", "emd", "sinkhorn", "sinkhorn eps=0.01 max_iter=5"]
    exact, emd, sinkhorn, rough = table.rows
    assert exact.time_ratio == 1 and exact.labels_changed == 0 and exact.relative_gap <= EXACT
    assert abs(emd.objective - exact.objective) <= EXACT * exact.objective
    assert emd.time_ratio == pytest.approx(emd.seconds / exact.seconds)
    solution = solve(problem, "sinkhorn", eps=0.01, max_iter=5)
    changed = (solution.labels != solve(problem, "linprog").labels).sum()
    assert rough.labels_changed == changed > 0
    assert rough.col_error == solution.col_error and rough.objective == solution.objective
    assert rough.relative_gap == solution.relative_gap
    assert sinkhorn.row_error <= 1e-9


def test_a_comparison_of_a_batch_adds_objectives_and_keeps_the_worst_errors():
    problem, options = ota_like(batch=3), {"eps": 0.1, "max_iter": 5}
    row = compare(problem, [("sinkhorn", options)], repeats=2, reference="assignment").rows[1]
    solution = solve(problem, "sinkhorn", **options)
    assert (solution.relative_gap < 0).all()  # rough plans cost too little: the worst is the lowest
    assert row.objective == pytest.approx(solution.objective.sum().item())
    assert row.col_error == solution.col_error.max() and abs(row.relative_gap) == solution.relative_gap.abs().max()


def test_the_table_is_aligned_and_its_rows_make_json():
    table = compare(ota_like(), repeats=1)
    lines = str(table).splitlines()
    assert len(lines) == 1 + len(table.rows) == 7 and len(set(map(len, lines))) == 1
    assert lines[0].split("  ")[0].strip() == "method" and lines[1].startswith("linprog")
    assert json.loads(json.dumps([dataclasses.asdict(row) for row in table.rows]))[0]["method"] == "linprog"


def test_an_empty_problem_can_be_compared():
    rows = compare(TransportProblem(torch.ones(0, 2), [], [0, 0]), repeats=1).rows
    assert {row.objective for row in rows} == {0.0} and {row.labels_changed for row in rows} == {0}


def test_a_comparison_says_what_it_cannot_do():
    with pytest.raises(InputError, match="repeats must be a whole number of at least 1"):
        compare(ota_like(), repeats=0)
    with pytest.raises(InputError, match="did you mean 'emd'"):
        compare(ota_like(), ["end"])


def test_the_old_name_of_a_method_goes_on_working_with_a_warning():
    problem = ota_like()
    with pytest.warns(DeprecationWarning, match="'price-path' is now called 'augmenting-path'"):
        old = solve(problem, "price-path")
    assert torch.equal(old.plan, solve(problem, "augmenting-path").plan)
