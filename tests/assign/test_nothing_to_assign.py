"""Empty is normal: no gt, no candidate, one point, gts of no area. Each has a defined answer."""

import pytest
import torch

from otalab.assign import ASSIGNERS, AnchorPoints, Predictions, Targets, build_assigner

from .cases import make_case

NAMES = sorted(ASSIGNERS)


def assign(name, gt_boxes, size=(64, 64), strides=(8, 16, 32), **options):
    """Assign one class of gts in a small image, predictions early in training."""
    points, predictions, _ = make_case(0, size, num_gt=0, num_classes=1, stage="early", strides=strides)
    boxes = torch.tensor(gt_boxes, dtype=torch.float64).reshape(-1, 4)
    targets = Targets(boxes, torch.zeros(len(boxes), dtype=torch.int64))
    return points, build_assigner(name, **options)(points, predictions, targets)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_gts_is_all_background(name):
    points, assignment = assign(name, [])
    assert assignment.matched_gt.tolist() == [-1] * len(points)
    assert assignment.matched_gt.dtype == torch.int64
    assert assignment.supply.tolist() == [len(points)]
    assert assignment.deficit.tolist() == assignment.counts.tolist() == []
    assert not assignment.positive.any()


@pytest.mark.parametrize("name", NAMES)
def test_one_anchor_point_gets_the_gt_or_the_background(name):
    for gt in ([0.0, 0.0, 8.0, 8.0], [500.0, 500.0, 600.0, 600.0], [4.0, 4.0, 4.0, 4.0]):
        points, assignment = assign(name, [gt], size=(8, 8), strides=(8,))
        assert len(points) == 1
        assert assignment.matched_gt.tolist() in ([0], [-1])
        assert assignment.supply.sum() == 1
        if name == "ota":
            assert assignment.matched_gt.tolist() == ([0] if gt[2] == 8 else [-1])


@pytest.mark.parametrize(
    "gt",
    [
        pytest.param([200.0, 200.0, 260.0, 260.0], id="outside the image"),
        pytest.param([30.0, 30.0, 30.0, 50.0], id="no width"),
        pytest.param([28.0, 28.0, 28.0, 28.0], id="a point on an anchor point"),
        pytest.param([50.0, 50.0, 20.0, 20.0], id="inverted"),
        pytest.param([50.0, 20.0, 20.0, 50.0], id="inverted in one axis"),
    ],
)
def test_a_gt_that_no_point_can_learn_stays_without_and_disturbs_nobody(gt):
    points, alone = assign("ota", [[10.0, 10.0, 50.0, 50.0]])
    _, both = assign("ota", [[10.0, 10.0, 50.0, 50.0], gt])
    assert both.matched_gt.tolist() == alone.matched_gt.tolist()
    assert both.deficit.tolist() == [0, 1]
    assert both.supply.sum() == len(points)
    _, single = assign("ota", [gt])
    assert not single.positive.any()
    assert single.cost.shape == single.plan.shape == (2, len(points))


@pytest.mark.parametrize(
    "gt, nearest",
    [
        pytest.param([21.0, 22.0, 23.0, 23.5], [20.0, 20.0], id="between all points"),
        pytest.param([19.5, 19.5, 20.005, 20.5], [20.0, 20.0], id="a point lies on its border"),
        pytest.param([0.0, 0.0, 1.0, 1.0], [4.0, 4.0], id="before the first point"),
        pytest.param([62.5, 30.0, 64.0, 31.0], [60.0, 28.0], id="behind the last point of a row"),
    ],
)
def test_a_tiny_gt_between_the_points_gets_the_nearest(gt, nearest):
    points, assignment = assign("ota", [gt], strides=(8,))
    assert points.xy[assignment.positive].tolist() == [nearest]
    assert assignment.deficit.tolist() == [0]


def test_a_tiny_gt_may_get_a_point_of_any_level():
    points, assignment = assign("ota", [[15.5, 15.5, 15.9, 15.9]], strides=(8, 32))
    assert points.xy[assignment.positive].tolist() == [[16.0, 16.0]]
    assert points.stride[assignment.positive].tolist() == [32.0]


def test_two_tiny_gts_at_one_point_leave_one_of_them_without():
    _, assignment = assign("ota", [[21.0, 21.0, 22.0, 22.0], [21.5, 21.5, 22.5, 22.5]], strides=(8,))
    assert sorted(assignment.counts.tolist()) == [0, 1]
    assert sorted(assignment.deficit.tolist()) == [0, 1]


def test_a_gt_partly_outside_the_image_is_learnt_by_the_points_it_covers():
    points, assignment = assign("ota", [[-40.0, -40.0, 30.0, 30.0]])
    assert assignment.positive.any()
    assert (points.xy[assignment.positive] < 30).all()


@pytest.mark.parametrize("gt", [[200.0, 200.0, 260.0, 260.0], [30.0, 30.0, 30.0, 50.0], [50.0, 50.0, 20.0, 20.0]])
def test_the_sinkhorn_assigners_make_such_gts_buy_a_label_at_any_price(gt):
    """As that code does: no route is forbidden there."""
    for name in ("ota-paper", "ota-official"):
        _, assignment = assign(name, [gt])
        assert assignment.supply[0] == 1
        assert float(assignment.plan[0].sum()) == pytest.approx(1)
    assert assignment.counts[0] >= 1  # with rescaled rows the largest share, however small, is a positive


def test_more_gts_than_points_leave_some_without():
    boxes = [[1.0 + i / 10, 1.0, 31.0 + i / 10, 31.0] for i in range(9)]
    points, assignment = assign("ota", boxes, size=(32, 32), strides=(16,))
    assert len(points) == 4
    assert assignment.counts.sum() == 4
    assert assignment.deficit.sum() == 5
    assert assignment.supply[-1] == 0


@pytest.mark.parametrize("name", NAMES)
def test_one_class_and_one_level_are_enough(name):
    points = AnchorPoints.for_image((40, 40), strides=(8,))
    predictions = Predictions(torch.zeros(25, 1), points.boxes(scale=3.0))
    assignment = build_assigner(name)(
        points, predictions, Targets(torch.tensor([[4.0, 4.0, 36.0, 36.0]]), torch.tensor([0]))
    )
    assert assignment.counts[0] >= 1
