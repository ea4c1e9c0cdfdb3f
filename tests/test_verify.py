import inspect
import json
from dataclasses import asdict, replace

import pytest
import torch
from detect.models import eager_detector

from otalab.assign import AnchorPoints, build_assigner
from otalab.data import CocoDataset
from otalab.errors import InputError
from otalab.simulate import random_targets, simulate_predictions
from otalab.transport import METHODS
from otalab.verify import (
    EXACT,
    Case,
    Check,
    detector_cases,
    excess,
    image_case,
    random_case,
    simulated_case,
    toy_case,
    verify,
    worst,
)

NAN = float("nan")
CLAIMS = {
    "agree": "exact solvers agree (relative)",
    "prove": "exact solvers prove it (relative gap)",
    "sums": "exact plans meet their sums",
    "pot": "Sinkhorn equals POT's (largest plan entry)",
    "labels": "labels of `ota` cost the optimum (relative)",
}


@pytest.fixture(scope="module")
def small():
    return random_case(4, 30)


def failed(verification) -> set[str]:
    return {
        key
        for key, claim in CLAIMS.items()
        for check in verification.checks
        if check.claim == claim and not check.passed
    }


def spoil(method: str, change, monkeypatch) -> None:
    """Let a solver return another solution than its own."""
    solver = METHODS[method]

    def spoiled(problem, **options):
        solution = solver(problem, **options)
        return replace(solution, **change(solution))

    spoiled.__signature__ = inspect.signature(solver)
    monkeypatch.setitem(METHODS, method, spoiled)


def moved(solution) -> dict:
    """The plan with a unit shipped by another row, columns as before."""
    plan = solution.plan.clone()
    giver = int(plan[:, 0].argmax())
    plan[giver, 0] -= 1
    plan[(giver + 1) % len(plan), 0] += 1
    return {"plan": plan}


def swapped(solution) -> dict:
    """The plan with two columns of different rows exchanged: sums as before, cost higher."""
    plan = solution.plan.clone()
    first, second = (int(plan[row].argmax()) for row in (0, 1))
    plan[:, [first, second]] = plan[:, [second, first]]
    return {"plan": plan}


def test_right_solvers_pass_every_check():
    for case in (toy_case(), random_case(), simulated_case()):
        verification = verify(case, repeats=1)
        assert verification.passed and failed(verification) == set()
        assert [row.method.split()[0] for row in verification.comparison.rows] == [*EXACT, "sinkhorn", "pot-sinkhorn"]
        assert len(verification.checks) == 4 + (case.labels is not None)
        assert verification.title in str(verification) and str(verification).count("\nok    ") == len(
            verification.checks
        )


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (moved, {"agree", "prove", "sums"}),
        (swapped, {"agree", "prove"}),
        (lambda solution: {"f": solution.f + torch.arange(5.0)}, {"prove"}),
    ],
    ids=["a unit moved", "columns swapped", "wrong potentials"],
)
def test_a_wrong_exact_solver_is_caught(method, change, caught, small, monkeypatch):
    spoil(method, change, monkeypatch)
    verification = verify(small, repeats=1)
    assert failed(verification) == caught and not verification.passed
    assert "\nFAIL  " in str(verification)


@pytest.mark.parametrize("method", ["sinkhorn", "pot-sinkhorn"])
def test_a_wrong_sinkhorn_is_caught(method, small, monkeypatch):
    spoil(method, lambda solution: {"plan": solution.plan + 1e-5}, monkeypatch)
    assert failed(verify(small, repeats=1)) == {"pot"}


@pytest.mark.parametrize("method", ["linprog", "emd", "assignment", "sinkhorn", "pot-sinkhorn"])
def test_a_plan_that_is_nan_passes_nowhere(method, small, monkeypatch):
    spoil(method, lambda solution: {"plan": solution.plan * NAN}, monkeypatch)
    with pytest.raises(InputError, match="plan is NaN"):
        verify(small, repeats=1)


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


def test_a_detector_is_verified_on_the_first_images_that_have_gts(edit_annotations):
    def clear_first(content):
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 1]

    dataset = CocoDataset.from_folder(edit_annotations(clear_first, "val"), "val")
    cases = list(detector_cases(eager_detector(num_classes=6), dataset, 2))
    assert [case.title.split(",")[0] for case in cases] == ["image 2", "image 3"]
    assert verify(cases[0], repeats=1).passed


def test_figures_are_plain_json(small):
    json.dumps(asdict(verify(small, repeats=1)), allow_nan=False)
