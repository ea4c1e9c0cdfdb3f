"""What `verify` checks, on what, and how it tells."""

import json
from dataclasses import replace

import pytest
import torch

from otalab.assign import AnchorPoints, build_assigner
from otalab.errors import InputError
from otalab.lab.cases import Case, image_case, random_case, simulated_case, toy_case
from otalab.lab.simulate import random_targets, simulate_predictions
from otalab.lab.verify import ENTROPIC, Check, excess, over, verify, worst
from otalab.transport import METHODS, TransportProblem, solve
from otalab.transport.methods import EXACT

from .solvers_spoilt import FRACTIONAL, NAN, claimed, failed, moved, spoil


@pytest.fixture(scope="module")
def small():
    return random_case(5, 30)


def test_right_solvers_pass_every_check():
    for case in (toy_case(), random_case(), simulated_case(), FRACTIONAL):
        verification = verify(case, repeats=1)
        assert verification.passed and failed(verification) == set()
        assert {"agree", "prove", "sums", "pot", "newton sums", "newton form", "newton cost"} <= claimed(verification)
        assert ("labels" in claimed(verification)) == (case.labels is not None)
        assert verification.title in str(verification)
        assert str(verification).count("\nok    ") == len(verification.checks)


def test_every_method_is_in_the_table_linprog_first_and_the_entropic_ones_get_eps(small):
    rows = [row.method for row in verify(small, repeats=1, eps=0.2, max_iter=7).comparison.rows]
    assert [row.split()[0] for row in rows] == list(METHODS)
    assert rows[0] == "linprog" and {"sinkhorn eps=0.2 max_iter=7", "newton eps=0.2"} <= set(rows)


def test_every_method_there_is_has_its_checks():
    assert set(METHODS) <= set(EXACT) | ENTROPIC.keys()


def test_a_method_that_does_not_suit_is_listed_with_its_reason_and_the_others_are_checked():
    verification = verify(FRACTIONAL, repeats=1)
    assert verification.passed and claimed(verification) >= {"agree", "prove", "sums", "pot"}
    reason = verification.comparison.unanswered["assignment"]
    assert "whole units are needed, but supply[0] is 1.5" in reason
    assert any(line.startswith("assignment ") and reason in line for line in str(verification).splitlines())
    assert "assignment" not in [row.method for row in verification.comparison.rows]


def test_a_method_asked_for_by_name_must_suit():
    with pytest.raises(InputError, match="assignment does not solve 'halves': whole units are needed"):
        verify(FRACTIONAL, methods=["emd", "assignment"], repeats=1)
    with pytest.raises(InputError, match="no method 'end'; there are linprog, emd, "):
        verify(FRACTIONAL, methods=["end"])


def test_a_problem_without_a_feasible_plan_is_told():
    """Two rows have one open column, and offer more than it wants."""
    inf = float("inf")
    problem = TransportProblem([[1.0, inf], [1.0, inf], [1.0, 1.0]], [1.0, 1.0, 1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="no exact method solves 'tight': no plan avoids the forbidden routes"):
        verify(Case("tight", problem), repeats=1)


def test_a_choice_of_methods_is_compared_with_its_first_exact_one_or_with_linprog(small):
    def first_column(*methods):
        return [row.method.split()[0] for row in verify(small, methods=methods, repeats=1).comparison.rows]

    assert first_column("sinkhorn", "emd", "assignment", "emd") == ["emd", "sinkhorn", "assignment"]
    assert first_column("sinkhorn") == ["linprog", "sinkhorn"]


def test_a_method_without_promises_is_in_the_table(small, monkeypatch):
    monkeypatch.setitem(METHODS, "next", lambda problem: METHODS["emd"](problem))
    assert verify(small, repeats=1).comparison.rows[-1].method == "next"


@pytest.mark.parametrize("options", [{"eps": 0.0}, {"eps": NAN}, {"max_iter": 0}])
def test_faulty_options_are_told_and_not_listed(options, small):
    with pytest.raises(InputError, match="must be"):
        verify(small, **options)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_figures_do_not_depend_on_the_units_of_cost_and_goods(size, small, monkeypatch):
    plain = small.problem
    problem = TransportProblem(plain.cost * size, plain.supply / size, plain.demand / size)

    def moved_in_units(solution):
        return {"plan": moved(replace(solution, plan=solution.plan * size))["plan"] / size}

    chosen = {"methods": ["linprog", "emd"], "repeats": 1}
    assert verify(Case("", problem), **chosen).passed
    spoil("emd", moved_in_units, monkeypatch)
    assert failed(verify(Case("", problem), **chosen)) == {"agree", "prove", "sums"}


def test_costs_of_both_signs_do_not_cancel_in_what_errors_are_relative_to():
    problem = TransportProblem([[1.0, -1.0]], [2.0], [1.0, 1.0])
    assert solve(problem, "emd").certificate.paid == 2.0
    free = TransportProblem([[0.0, 100.0], [100.0, 0.0]], [1.0, 1.0], [1.0, 1.0])
    assert verify(Case("", free), repeats=1).passed


def test_nothing_over_nothing_is_nothing_and_something_over_nothing_is_too_much():
    assert over(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 2.0])) == 1.5
    assert over(torch.tensor([1e-30]), torch.tensor([0.0])) == float("inf")
    assert over(torch.tensor([NAN, 1.0]), torch.tensor(1.0)) != 1.0


def test_labels_that_cost_more_are_caught():
    case = simulated_case()
    labels = case.labels.clone()
    labels[int((labels >= 0).nonzero()[0])] = -1
    assert failed(verify(replace(case, labels=labels), repeats=1)) == {"labels"}


def test_labels_may_tie():
    problem = replace(toy_case().problem, cost=torch.ones(3, 6, dtype=torch.float64))
    labels = torch.tensor([0, 0, 1, 1, -1, -1])
    assert excess(Case("", problem, labels), 6.0) == 0 == excess(Case("", problem, labels.flip(0)), 6.0)


def test_a_check_passes_up_to_what_is_allowed_and_never_on_nan():
    assert Check("", 1.0, 1.0).passed and Check("", 0.0, 1.0).passed
    assert not Check("", 1.1, 1.0).passed and not Check("", NAN, 1.0).passed


@pytest.mark.parametrize("figures", [[NAN, 1.0], [1.0, NAN], [1.0, NAN, 2.0]])
def test_the_worst_of_figures_is_nan_if_one_is(figures):
    assert worst(figures) != worst(figures)


def test_the_worst_of_figures_is_the_largest_by_size():
    assert worst([0.5, -3.0, 2.0]) == 3.0


def test_the_labels_of_an_image_whose_gts_lack_points_are_checked_too():
    """What `ota` ships there, it ships at the least cost."""
    generator = torch.Generator().manual_seed(0)
    points = AnchorPoints.for_image((64, 64))
    targets = random_targets((64, 64), 10, 3, generator)
    predictions = simulate_predictions(points, targets, 3, generator)
    assert build_assigner("ota")(points, predictions, targets).deficit.any()
    verification = verify(image_case("", points, predictions, targets), repeats=1)
    assert verification.passed
    assert "labels of `ota`" in verification.checks[-1].claim


def test_figures_are_plain_json(small):
    json.dumps(verify(small, repeats=1).as_dict(), allow_nan=False)


def test_exact_plans_can_be_certified_in_fractions_too(small):
    verification = verify(small, repeats=1, exact=True)
    assert set(verification.exact) == set(EXACT) and all(proof.gap == 0 for proof in verification.exact.values())
    assert "without rounding, augmenting-path's plan is optimal\n  objective      " in str(verification)
    assert verification.as_dict()["exact"]["emd"]["gap"] == "0"
    thirds = Case("", TransportProblem([[1.0, 2.0]], [1.0], [1 / 3, 2 / 3]))
    assert verify(thirds, repeats=1, exact=True, methods=["emd"]).passed  # though float64 thirds miss their sum a bit


def test_a_method_asked_for_by_its_old_name_that_refuses_is_an_error_too():
    uneven = replace(FRACTIONAL, title="fractions")
    with (
        pytest.warns(DeprecationWarning),
        pytest.raises(InputError, match="augmenting-path does not solve 'fractions'"),
    ):
        verify(uneven, methods=["emd", "price-path"])
