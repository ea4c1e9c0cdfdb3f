"""`ota-official` gives, label for label, what the authors' code gives in float64."""

import time

import numpy as np
import pytest
import torch

from otalab.assign import Predictions, SinkhornOTA, Targets, build_assigner
from otalab.errors import InputError

from .cases import SCENES, STAGES, make_case
from .reference import official

SIZES = ((128, 128), (200, 304), (131, 97), (320, 320), (257, 333))
COUNTS = (1, 2, 3, 5, 8, 13, 20, 30, 60)


def family(index):
    """Every pair of the settings meets within the range of indices; the lengths of the lists share few factors."""
    return make_case(
        seed=index,
        size=SIZES[index % 5],
        num_gt=COUNTS[index % 9],
        num_classes=(1, 4, 80)[index // 3 % 3],
        stage=STAGES[index // 2 % 5],
        scene=SCENES[index % 8],
        offset=(0.0, 0.5)[index // 5 % 2],
        dtype=(torch.float32, torch.float64)[index // 7 % 2],
    )


def assert_like_the_reference(case, by_ties=0.0):
    """`by_ties`: share of the labels that a tie may decide otherwise."""
    reference = official(*case.arrays())
    if reference.supply[-1] < 0:
        with pytest.raises(InputError, match="supply sums to"):
            build_assigner("ota-official")(*case)
        return
    assignment = build_assigner("ota-official")(*case)
    gap = np.abs(reference.iou_sums - reference.iou_sums.round())
    assert ((gap > 1e-9) | (gap == 0)).all(), "a sum of IoUs that rounding decides: choose another seed"
    assert assignment.supply.tolist() == reference.supply.tolist()
    different = assignment.matched_gt.numpy() != reference.labels
    assert not (different & ~reference.tied).any(), f"{different.sum()} labels differ"
    assert different.mean() <= by_ties
    np.testing.assert_allclose(assignment.plan.numpy(), reference.plan, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("index", [*range(45), *(pytest.param(i, marks=pytest.mark.slow) for i in range(45, 90))])
def test_labels_equal_the_authors_in_every_family_of_images(index):
    initial = STAGES[index // 2 % 5] == "initial"  # equal scores at all points: gts compete by rounding errors
    assert_like_the_reference(family(index), by_ties=0.2 if initial else 0.0)


@pytest.mark.slow
def test_labels_equal_the_authors_at_full_size():
    assert_like_the_reference(make_case(1, (800, 1344), 60, 4, "middle", "normal", 0.0, torch.float32))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["early", "late"])
def test_a_full_size_image_of_60_gts_takes_seconds(stage):
    case = make_case(2, (800, 1344), 60, 80, stage, "normal", 0.0, torch.float32)
    start = time.process_time()
    build_assigner("ota-official")(*case)
    assert time.process_time() - start < 15


def test_the_first_of_two_equal_gts_takes_all():
    case = make_case(3, num_gt=2, stage="middle", scene="duplicates")
    counts = build_assigner("ota-official")(*case).counts
    assert counts[0] > 0
    assert counts[1] == 0


def test_a_point_that_tops_two_rows_goes_to_the_first():
    """Rescaling gives both a share of exactly 1."""
    case = make_case(0, (32, 32), num_gt=2, num_classes=1, stage="early", strides=(32,))
    (box,) = torch.tensor([[2.0, 2.0, 30.0, 30.0]], dtype=torch.float64)
    targets = Targets(torch.stack((box, box - 1)), torch.tensor([0, 0]))
    points = case.points
    assert len(points) == 1  # but a supply of 2 needs two points
    with pytest.raises(InputError, match="supply sums to 2 but demand is 1"):
        build_assigner("ota-official")(points, case.predictions, targets)
    two = make_case(0, (32, 64), num_gt=2, num_classes=1, stage="early", strides=(32,))
    assignment = build_assigner("ota-official")(two.points, two.predictions, targets)
    share = assignment.plan / assignment.plan.amax(dim=1, keepdim=True)
    assert share[:2, 0].tolist() == [1.0, 1.0]
    assert assignment.matched_gt[0] == 0


def test_rows_of_the_plan_are_exact_and_columns_are_not():
    assignment = build_assigner("ota-official")(*make_case(5, num_gt=8, scene="crowd"))
    torch.testing.assert_close(assignment.plan.sum(dim=1), assignment.supply.double(), rtol=1e-9, atol=2e-8)
    assert (assignment.plan.sum(dim=0) - 1).abs().max() > 1e-3


def test_a_background_that_supplies_nothing_gets_next_to_nothing():
    """Supplies may use up all points; the 1e-8 in the logarithm keeps the background's row finite."""
    case = make_case(0, (32, 32), num_gt=1, num_classes=2, stage="early", strides=(8,))
    assignment = build_assigner("ota-official", k=16)(*case)
    assert assignment.supply.tolist() == [16, 0]
    assert assignment.plan.isfinite().all()
    assert float(assignment.plan[-1].sum()) == pytest.approx(1e-8, rel=1e-6)


def test_fewer_points_than_q_are_summed_as_they_are():
    case = make_case(4, (32, 32), num_gt=1, num_classes=2, stage="equal", strides=(16, 32))
    assert len(case.points) == 5
    reference = official(*case.arrays())
    assignment = build_assigner("ota-official")(*case)
    assert assignment.supply.tolist() == reference.supply.tolist()
    assert assignment.matched_gt.tolist() == reference.labels.tolist()


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_huge_logits_make_huge_costs_but_no_nan(scale):
    points, predictions, targets = make_case(6, num_gt=5)
    loud = Predictions(predictions.logits * scale, predictions.boxes)
    assignment = build_assigner("ota-official")(points, loud, targets)
    assert assignment.plan.isfinite().all()
    reference = official(points.xy, points.stride, loud.logits, loud.boxes, targets.boxes, targets.labels)
    different = assignment.matched_gt.numpy() != reference.labels
    assert not (different & ~reference.tied).any()


def test_options_replace_the_settings_of_the_code():
    official_settings = build_assigner("ota-official")
    assert isinstance(official_settings, SinkhornOTA)
    assert (official_settings.off_prior, official_settings.eps, official_settings.max_iter) == (1e6, 0.1, 50)
    assert build_assigner("ota-official", max_iter=7).max_iter == 7
