"""Strange input has a defined answer: the one that docs/assigners.md tells."""

from pathlib import Path

import pytest
import torch

from otalab.assign import ASSIGNERS, build_assigner
from otalab.errors import InputError

from .strange import SCENARIOS, answer, rows

DOC = Path(__file__).parents[2] / "docs" / "assigners.md"


@pytest.mark.parametrize("name", ASSIGNERS)
def test_labels_are_gts_weights_are_finite_and_losses_too(name):
    for scenario in SCENARIOS.keys() - {"NaN logits"}:
        assert_sound(name, scenario)


def assert_sound(name, scenario):
    points, predictions, targets = SCENARIOS[scenario]()
    if answer(name, scenario) == "error":
        assert name in ("ota-paper", "ota-official") and scenario in ("60 gts", "4 points")  # more supply than points
        return
    assignment = build_assigner(name)(points, predictions, targets)
    assert assignment.matched_gt.shape == (len(points),)
    assert int(assignment.matched_gt.min()) >= -2 and int(assignment.matched_gt.max()) < max(len(targets), 1)
    assert int(assignment.supply.sum()) == len(points) or name == "uot"
    if len(points) > 4 and len(targets) < 60:
        assert int(assignment.positive.sum()) < len(points) / 2  # never a silent all-positive
    for weight in (assignment.score, assignment.label_weight, assignment.box_weight):
        assert weight is None or (weight.isfinite().all() and (weight >= 0).all())
    if assignment.make_losses is not None:
        live = type(predictions)(predictions.logits.requires_grad_(), predictions.boxes.requires_grad_())
        loss = sum(term.total for term in assignment.losses(live).values())
        assert loss.isfinite()
        loss.backward()
        assert live.logits.grad.isfinite().all() and live.boxes.grad.isfinite().all()


@pytest.mark.parametrize("name", ASSIGNERS)
def test_a_logit_that_is_not_a_number_is_an_error_that_names_its_place(name):
    with pytest.raises(InputError, match=r"logits: 567 non-finite values, the first is nan at \(0, 0\)"):
        build_assigner(name)(*SCENARIOS["NaN logits"]())


@pytest.mark.parametrize("name", ASSIGNERS)
def test_points_in_an_ignore_region_are_positive_or_ignored_but_never_background(name):
    points, predictions, targets = SCENARIOS["one gt"]()
    region = torch.tensor([[50.0, 0, 96, 50]])
    ignoring = type(targets)(targets.boxes, targets.labels, region)
    plain, found = (build_assigner(name)(points, predictions, t).matched_gt for t in (targets, ignoring))
    x, y = points.xy.T
    inside = (x > 50) & (x < 96) & (y > 0) & (y < 50)
    expected = torch.where(inside & (plain == -1), -2, plain)
    assert found.tolist() == expected.tolist()
    assert (found == -2).any()


def test_the_table_of_answers_is_what_the_assigners_answer():
    text = DOC.read_text()
    for row in rows():
        assert row in text, f"docs/assigners.md lacks {row}; python -m tests.assign.strange prints the table"
