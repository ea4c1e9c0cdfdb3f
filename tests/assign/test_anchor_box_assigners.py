"""What the assigners that put boxes on the points answer to strange input, and what a permutation of gts changes."""

import pytest
import torch

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Predictions, Targets
from otalab.assign.atss import ATSS
from otalab.assign.max_iou import MaxIoU, anchor_boxes
from otalab.assign.paa import PAA

from .cases import STAGES, make_case

ASSIGNERS = {
    "max-iou": MaxIoU(),
    "max-iou, nine anchors": MaxIoU(scales=(4.0, 5.0, 6.3), ratios=(0.5, 1.0, 2.0)),
    "max-iou, high quality": MaxIoU(low_quality=False),
    "atss": ATSS(),
    "paa": PAA(),
}
BOX = [30.0, 26.0, 90.0, 80.0]
names = pytest.mark.parametrize("name", ASSIGNERS)


def assign(name, boxes, size=(128, 160), strides=(8, 16, 32, 64, 128)):
    """Gts of one class, predictions early in training."""
    points, predictions, _ = make_case(0, size, num_gt=0, num_classes=1, stage="early", strides=strides)
    boxes = torch.tensor(boxes, dtype=torch.float64)
    targets = Targets(boxes, torch.zeros(len(boxes), dtype=torch.int64))
    return ASSIGNERS[name](points, predictions, targets)


@names
@pytest.mark.parametrize(
    "gt",
    [
        pytest.param([600.0, 600.0, 660.0, 650.0], id="outside the image"),
        pytest.param([60.0, 60.0, 60.0, 60.0], id="zero area"),
        pytest.param([60.0, 40.0, 60.0, 70.0], id="no width"),
        pytest.param([80.0, 80.0, 40.0, 30.0], id="inverted"),
        pytest.param([80.0, 30.0, 40.0, 80.0], id="inverted in one axis"),
    ],
)
def test_a_gt_that_overlaps_nothing_gets_nothing_and_disturbs_nobody(name, gt):
    """Elsewhere it ties with every anchor at IoU 0 and takes them all."""
    alone, first, last = assign(name, [BOX]), assign(name, [gt, BOX]), assign(name, [BOX, gt])
    assert 0 < alone.counts[0] < 100
    assert last.matched_gt.tolist() == alone.matched_gt.tolist()
    assert (first.matched_gt - (first.matched_gt >= 0).long()).tolist() == alone.matched_gt.tolist()
    assert not assign(name, [gt]).positive.any()


@names
@pytest.mark.parametrize("scene", ["tiny", "huge", "outside"])
def test_sixty_gts_are_labelled_and_not_every_point_is_positive(name, scene):
    for stage in STAGES if name == "paa" else ("middle",):
        case = make_case(5, num_gt=60, stage=stage, scene=scene, num_classes=1)
        assignment = ASSIGNERS[name](*case)
        assert assignment.positive.any() or (name, scene) == ("max-iou, high quality", "tiny")
        assert not assignment.positive.all()
        assert assignment.supply.sum() == len(case.points)
        assert assignment.counts.sum() == assignment.positive.sum()


@names
@pytest.mark.parametrize("size, strides", [((8, 8), (8,)), ((16, 16), (16,)), ((16, 24), (8,)), ((64, 64), (32, 64))])
def test_fewer_points_than_candidates_wanted_are_enough(name, size, strides):
    assignment = assign(name, [[2.0, 2.0, 14.0, 13.0], [0.0, 0.0, 8.0, 8.0]], size, strides)
    assert set(assignment.matched_gt.tolist()) <= {-2, -1, 0, 1}


@names
def test_two_equal_gts_take_no_more_points_than_one(name):
    alone, both = assign(name, [BOX]), assign(name, [BOX, BOX])
    if name == "paa":  # its second gt takes the best anchor boxes, and the first is left with others
        assert both.positive.any()
        return
    assert torch.equal(both.positive, alone.positive)
    if name in ("atss", "max-iou, high quality"):
        assert both.counts[1] == 0
    else:  # the second takes the anchor boxes of highest IoU
        assert both.counts[1] > 0


@names
@pytest.mark.parametrize("scene", ["normal", "crowd", "tiny"])
def test_a_permutation_of_the_gts_permutes_the_labels_but_for_anchors_that_are_best_for_two(name, scene):
    assigner, tested = ASSIGNERS[name], 0
    for seed in range(8):
        points, predictions, targets = make_case(seed, num_gt=6, scene=scene)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        permuted = Targets(targets.boxes[order], targets.labels[order])
        if best_for_two(assigner, points, targets.boxes):
            continue
        tested += 1
        back = torch.cat((order, torch.tensor([-2, -1])))
        a, b = (assigner(points, predictions, t).matched_gt for t in (targets, permuted))
        assert back[b].tolist() == a.tolist()
    assert tested or scene == "tiny"


def best_for_two(assigner, points, gts):
    """Whether an anchor box is the best for two gts, and low-quality matches give it to the last of them."""
    rule = assigner.first_stage if isinstance(assigner, PAA) else assigner
    if isinstance(rule, ATSS) or not rule.low_quality:
        return False
    iou = box_ops.iou(gts[:, None], anchor_boxes(points, rule.scales, rule.ratios).flatten(0, 1))
    best = (iou == iou.amax(dim=1, keepdim=True)) & (iou > 0)
    return bool((best.sum(dim=0) > 1).any())


@names
def test_points_without_a_grid_and_half_precision_logits_will_do(name):
    points, predictions, targets = make_case(0)
    loose = AnchorPoints(points.xy, points.stride, points.level)
    low = Predictions(predictions.logits.half(), predictions.boxes)
    high = Predictions(low.logits.double(), predictions.boxes)
    a, b = ASSIGNERS[name](loose, low, targets), ASSIGNERS[name](points, high, targets)
    assert a.matched_gt.tolist() == b.matched_gt.tolist()
