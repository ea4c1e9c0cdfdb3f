"""MaxIoU against a loop written from its rule, torchvision's Matcher and mmdetection."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from otalab.assign import AnchorPoints, Predictions
from otalab.assign.max_iou import MaxIoU, anchor_boxes
from otalab.errors import InputError

from .cases import SCENES, make_case
from .golden.cases import positives, read

RULES = {"retinanet": MaxIoU(), "rpn": MaxIoU(0.7, 0.3, 0.3), "rcnn": MaxIoU(0.5, 0.5, low_quality=False)}
NINE = {"scales": (4.0, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)), "ratios": (0.5, 1.0, 2.0)}


def overlap(a, b):
    """IoU of two boxes given as lists."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [max(x[2] - x[0], 0) * max(x[3] - x[1], 0) for x in (a, b)]
    return width * height / (areas[0] + areas[1] - width * height)


def labels_by_loop(anchors, gts, rule):
    """The rule, anchor by anchor and then gt by gt."""
    table = [[overlap(gt, anchor) for gt in gts] for anchor in anchors]
    labels = []
    for row in table:
        most = max(row)
        labels.append(row.index(most) if most >= rule.pos_iou_thr else -1 if most < rule.neg_iou_thr else -2)
    for gt in range(len(gts) if rule.low_quality else 0):
        most = max(row[gt] for row in table)
        if most > 0 and most >= rule.min_pos_iou:
            for anchor, row in enumerate(table):
                if row[gt] == most:
                    labels[anchor] = gt
    return labels


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("name", RULES)
def test_labels_are_those_of_the_rule(name, scene):
    for seed in range(3):
        points, predictions, targets = make_case(seed, num_gt=4 + 3 * seed, scene=scene)
        expected = labels_by_loop(points.boxes(scale=8.0).tolist(), targets.boxes.tolist(), RULES[name])
        assert RULES[name](points, predictions, targets).matched_gt.tolist() == expected


@pytest.mark.parametrize("scene", SCENES)
def test_a_point_of_nine_anchors_takes_its_best_positive_before_ignored_before_background(scene):
    rule = MaxIoU(**NINE)
    points, predictions, targets = make_case(1, (64, 96), num_gt=5, scene=scene)
    anchors, gts = anchor_boxes(points, **NINE), targets.boxes.tolist()
    labels = labels_by_loop(anchors.flatten(0, 1).tolist(), gts, rule)
    assert rule.match(anchors.flatten(0, 1), targets.boxes).tolist() == labels
    expected = []
    for index, boxes in enumerate(anchors.tolist()):
        mine = labels[9 * index : 9 * index + 9]
        found = [(overlap(gts[gt], box), gt) for gt, box in zip(mine, boxes, strict=True) if gt >= 0]
        best = max(found, key=lambda pair: pair[0], default=None)
        expected.append(best[1] if best else -2 if -2 in mine else -1)
    assert rule(points, predictions, targets).matched_gt.tolist() == expected


@pytest.mark.parametrize("record", read("max_iou"), ids=lambda record: record["case"]["scene"])
def test_labels_are_those_of_mmdetection(record):
    case = make_case(**record["case"])
    for name in RULES.keys() & record.keys():
        matched = RULES[name](*case).matched_gt
        assert positives(matched.tolist()) == record[name]["positives"]
        assert (matched == -2).nonzero().flatten().tolist() == record[name]["ignored"]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("high, low", [(0.5, 0.4), (0.7, 0.3), (0.5, 0.5)])
def test_without_low_quality_matches_labels_are_those_of_torchvision(scene, high, low):
    points, predictions, targets = make_case(3, (200, 304), num_gt=12, scene=scene)
    expected = Matcher(high, low)(box_iou(targets.boxes, points.boxes(scale=8.0)))
    assert MaxIoU(high, low, low_quality=False)(points, predictions, targets).matched_gt.tolist() == expected.tolist()


@pytest.mark.parametrize("scene", SCENES)
def test_a_low_quality_match_may_learn_the_gt_that_it_overlaps_most_as_in_torchvision(scene):
    points, _, targets = make_case(3, (200, 304), num_gt=12, scene=scene)
    anchors = anchor_boxes(points, **NINE).flatten(0, 1)
    overlap = box_iou(targets.boxes, anchors)
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=True)(overlap)
    expected = torch.where(
        overlap.amax(dim=0) > 0, expected, -1
    )  # a gt that overlaps no anchor marks all of them there
    assert MaxIoU(learner="best").match(anchors, targets.boxes).tolist() == expected.tolist()


def test_points_that_are_anchors_are_compared_by_their_own_boxes():
    points, predictions, targets = make_case(3, (96, 96), num_gt=5)
    anchors = anchor_boxes(points, **NINE)
    nine = AnchorPoints(*(x.repeat_interleave(9, dim=0) for x in (points.xy, points.stride, points.level)))
    nine = replace(nine, anchors=anchors.flatten(0, 1)).to(dtype=torch.float32)
    predictions = Predictions(*(x.repeat_interleave(9, dim=0) for x in (predictions.logits, predictions.boxes)))
    expected = MaxIoU().match(nine.anchors.double(), targets.boxes)
    assert MaxIoU()(nine, predictions, targets).matched_gt.tolist() == expected.tolist()
    assert nine.boxes() is nine.anchors


def test_an_anchor_that_is_best_for_two_gts_goes_to_the_last_of_them():
    gts = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 5.0, 10.0]], dtype=torch.float64)
    anchor = gts[:1]
    assert MaxIoU().match(anchor, gts).tolist() == [1]  # mmdetection's reading
    assert (
        MaxIoU(learner="best").match(anchor, gts).tolist()
        == MaxIoU(low_quality=False).match(anchor, gts).tolist()
        == [0]
    )


def test_anchors_have_the_area_of_their_scale_and_the_ratio_of_height_to_width():
    points = AnchorPoints.for_image((64, 64), dtype=torch.float64)
    boxes = anchor_boxes(points, **NINE)
    assert boxes.shape == (len(points), 9, 4)
    size = boxes[..., 2:] - boxes[..., :2]
    assert torch.allclose((boxes[..., :2] + boxes[..., 2:]) / 2, points.xy[:, None].expand(-1, 9, -1))
    ratios = torch.tensor(NINE["ratios"], dtype=torch.float64).repeat_interleave(3)
    scales = torch.tensor(NINE["scales"], dtype=torch.float64).repeat(3)
    assert torch.allclose(size[..., 1] / size[..., 0], ratios.expand(len(points), -1))
    assert torch.allclose(size.prod(dim=-1).sqrt(), scales * points.stride[:, None])
    first = points.level.diff(prepend=points.level[:1] - 1) == 1  # of each level
    expected = torch.tensor(read("max_iou")[0]["nine anchors"], dtype=torch.float64)  # mmdetection's, in float32
    assert torch.allclose(boxes[first].flatten(0, 1), expected, atol=1e-4)
    assert torch.equal(anchor_boxes(points)[:, 0], points.boxes(scale=8.0))


def test_ignored_points_count_as_supply_of_the_background_and_have_no_loss():
    points, predictions, targets = make_case(0, scene="normal")
    assignment = MaxIoU()(points, predictions, targets)
    ignored = assignment.matched_gt == -2
    assert ignored.any()
    assert torch.equal(assignment.kept, ~ignored)
    assert assignment.supply.tolist() == [*assignment.counts.tolist(), int((~assignment.positive).sum())]
    assert assignment.supply.sum() == len(points)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pos_iou_thr": 0.3}, r"not \(0.4, 0.3\)"),
        ({"pos_iou_thr": 0.0, "neg_iou_thr": 0.0}, r"the second not 0, not \(0.0, 0.0\)"),
        ({"pos_iou_thr": 1.5}, r"not \(0.4, 1.5\)"),
        ({"neg_iou_thr": -0.1}, r"not \(-0.1, 0.5\)"),
        ({"pos_iou_thr": float("nan")}, "nan"),
        ({"min_pos_iou": -1.0}, "min_pos_iou must be in 0..1, not -1.0"),
        ({"scales": ()}, r"scales must be .*, not \(\)"),
        ({"ratios": (1.0, 0.0)}, r"ratios must be .*, not \(1.0, 0.0\)"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MaxIoU(**options)
