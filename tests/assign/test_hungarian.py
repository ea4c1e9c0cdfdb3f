"""DETR's matching against every possible matching, against SciPy on a cost by loops, and recorded answers."""

import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from otalab.assign import AnchorPoints, Predictions, Targets
from otalab.assign.hungarian import DetrCost, Hungarian, extent
from otalab.errors import InputError

from .cases import SCENES, STAGES, make_case
from .golden.cases import positives, read
from .strange_gts import STRANGE, few_points, sound, strange_case, swapped


def giou_by_hand(a, b):
    """GIoU of two boxes that are not inverted."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return width * height / union - (hull - union) / hull


def cost_by_loop(case, size, classification, no_object="last"):
    """Every pair's cost as the paper defines it, weights 1, 5, 2; size is (height, width)."""
    _, predictions, targets = case
    parts = (size[1], size[0], size[1], size[0])

    def relative(box):
        left, top, right, bottom = box
        centre_and_size = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        return [value / part for value, part in zip(centre_and_size, parts, strict=True)]

    table = []
    for gt, label in zip(targets.boxes.tolist(), targets.labels.tolist(), strict=True):
        row = []
        for box, logits in zip(predictions.boxes.tolist(), predictions.logits.tolist(), strict=True):
            if classification == "softmax":
                total = sum(math.exp(logit) for logit in logits) + (no_object == "zero")
                class_cost = -math.exp(logits[label]) / total
            else:
                p = 1 / (1 + math.exp(-logits[label]))
                positive = -0.25 * (1 - p) ** 2 * math.log(p + 1e-12)
                class_cost = positive + 0.75 * p**2 * math.log(1 - p + 1e-12)
            l1 = sum(abs(a - b) for a, b in zip(relative(gt), relative(box), strict=True))
            row.append(class_cost + 5 * l1 - 2 * giou_by_hand(gt, box))
        table.append(row)
    return table


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("options", [("focal",), ("softmax",), ("softmax", "zero")])
def test_costs_and_labels_are_those_of_the_definition(scene, options):
    for seed, stage in enumerate(STAGES):
        case = make_case(seed, (64, 96), num_gt=5, num_classes=3, stage=stage, scene=scene)
        cost = DetrCost(*options)
        expected = cost_by_loop(case, (64, 96), *options)
        assert torch.allclose(cost(*case), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        assignment = Hungarian(cost)(*case)
        pairs = [(gt, point) for point, gt in enumerate(assignment.matched_gt.tolist()) if gt >= 0]
        assert sorted(gt for gt, _ in pairs) == list(range(5))
        best = linear_sum_assignment(expected)
        assert sum(expected[gt][point] for gt, point in pairs) == pytest.approx(
            sum(expected[gt][point] for gt, point in zip(*best, strict=True)), abs=1e-9
        )


def test_no_other_matching_costs_less():
    for seed in range(6):
        case = make_case(seed, (24, 32), num_gt=3, strides=(8,), scene="crowd")
        cost = DetrCost()(*case)
        matched = Hungarian()(*case).matched_gt
        chosen = [int((matched == gt).nonzero()) for gt in range(3)]
        least = min(
            float(cost[range(3), list(points)].sum()) for points in itertools.permutations(range(cost.shape[1]), 3)
        )
        assert float(cost[range(3), chosen].sum()) == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("record", read("hungarian"), ids=lambda record: "{stage} {scene}".format(**record["case"]))
@pytest.mark.parametrize("classification", ["focal", "softmax"])
def test_labels_are_those_that_mmdetection_gave(record, classification):
    assigner = Hungarian(DetrCost(classification=classification, image_size=(128, 160)))
    assignment = assigner(*make_case(**record["case"]))
    assert positives(assignment.matched_gt.tolist()) == record[classification]


def test_a_column_of_zeros_is_what_a_head_without_a_no_object_class_lacks():
    points, predictions, targets = make_case(0)
    zeros = torch.zeros(len(points), 1, dtype=torch.float64)
    padded = Predictions(torch.cat((predictions.logits, zeros), dim=1), predictions.boxes)
    last = DetrCost(classification="softmax", no_object="last")(points, padded, targets)
    assert torch.allclose(DetrCost(classification="softmax", no_object="zero")(points, predictions, targets), last)


def test_weights_scale_their_terms():
    case = make_case(0)
    only = [DetrCost(cls_weight=a, l1_weight=b, giou_weight=c)(*case) for a, b, c in torch.eye(3).tolist()]
    mixed = DetrCost(cls_weight=2.0, l1_weight=3.0, giou_weight=4.0)(*case)
    assert torch.allclose(mixed, 2 * only[0] + 3 * only[1] + 4 * only[2])


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_boxes_are_measured_in_parts_of_the_finest_feature_map_unless_a_size_is_given(offset):
    points = AnchorPoints.for_feature_maps([(10, 20), (5, 10)], (8, 16), offset, dtype=torch.float64)
    assert extent(points).tolist() == [160.0, 80.0]
    bare = AnchorPoints(points.xy, points.stride, points.level)
    assert extent(bare).tolist() == [156.0 + 8 * offset, 76.0 + 8 * offset]
    _, predictions, targets = make_case(0, (80, 160), strides=(8, 16))
    case = (points, predictions, targets)
    assert torch.equal(DetrCost(image_size=(80, 160))(*case), DetrCost()(*case))
    far = DetrCost(cls_weight=0.0, giou_weight=0.0)
    half = DetrCost(cls_weight=0.0, giou_weight=0.0, image_size=(40, 80))
    assert torch.allclose(half(*case), 2 * far(*case))


def test_a_gt_that_no_point_is_left_for_is_reported():
    assignment = sound(Hungarian(), few_points())
    assert assignment.counts.sum() == 4
    assert assignment.deficit.tolist() == [1 - count for count in assignment.counts.tolist()]
    assert (assignment.matched_gt >= 0).all()


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("strides", [(8, 16, 32, 64, 128), (16,)])
def test_every_gt_however_strange_gets_one_point(name, strides):
    case = strange_case(name, strides=strides)
    assignment = sound(Hungarian(), case)
    assert assignment.counts.tolist() == [1] * len(case.targets)
    assert assignment.deficit.tolist() == [0] * len(case.targets)


@pytest.mark.parametrize("name", ["60 gts", "outside"])
def test_the_order_of_gts_does_not_matter(name):
    case = strange_case(name)
    other, back = swapped(case)
    assert back[Hungarian()(*other).matched_gt].tolist() == Hungarian()(*case).matched_gt.tolist()


def test_an_image_without_gts_is_background():
    points, predictions, _ = make_case(0, num_gt=0)
    assignment = Hungarian()(points, predictions, Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    assert not assignment.positive.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classification": "hinge"}, "classification 'hinge' is none of focal, softmax"),
        ({"no_object": "first"}, "no_object 'first' is none of last, zero"),
        ({"l1_weight": -5.0}, "l1_weight must be finite and not negative, not -5.0"),
        ({"giou_weight": float("nan")}, "giou_weight must be finite and not negative, not nan"),
        ({"cls_weight": float("inf")}, "cls_weight must be finite"),
        ({"image_size": (0, 160)}, r"image_size must be a positive \(height, width\), not \(0, 160\)"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        DetrCost(**options)
