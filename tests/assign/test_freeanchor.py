"""FreeAnchor against loops written from its definition, and recorded losses and gradients of mmdetection."""

import math

import pytest
import torch

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Predictions, Targets
from otalab.assign.freeanchor import FreeAnchor
from otalab.errors import InputError

from .cases import KINDS, make_case
from .golden.cases import read
from .own_losses import answer, sizes
from .strange_gts import STRANGE, few_points, sound, strange_case


def deltas_by_hand(box, anchor):
    """Centre and logarithm of the size of a box, as an anchor sees it."""
    seen = []
    for low, high in ((0, 2), (1, 3)):
        side = anchor[high] - anchor[low]
        seen.append((box[low] + box[high] - anchor[low] - anchor[high]) / 2 / side / 0.1)
        seen.append(math.log(max(box[high] - box[low], 1e-3) / side) / 0.2)
    return seen


def smooth_l1(difference):
    return difference**2 / 0.22 if abs(difference) < 0.11 else abs(difference) - 0.055


def losses_by_loop(points, predictions, targets, kept, topk, thr, gamma, alpha):
    """(positive, negative) losses, not divided, and what each gt's bag gives: {point: part of its probability}."""
    anchors, boxes, gts = points.boxes(8.0).tolist(), predictions.boxes.tolist(), targets.boxes.tolist()
    labels, probability = targets.labels.tolist(), predictions.logits.sigmoid().tolist()
    overlap = box_ops.iou(targets.boxes[:, None], points.boxes(8.0)).tolist()
    iou = box_ops.iou(targets.boxes[:, None], predictions.boxes).tolist()
    n, positive, bags = len(points), 0.0, []
    for i, gt in enumerate(gts):
        middle = (gt[0] + gt[2]) / 2, (gt[1] + gt[3]) / 2
        far = [math.dist(middle, xy) for xy in points.xy.tolist()]
        bag = sorted(range(n), key=lambda j: -overlap[i][j] if overlap[i][j] > 0 else far[j])[:topk]
        p, weight = {}, {}
        for j in bag:
            pairs = zip(deltas_by_hand(boxes[j], anchors[j]), deltas_by_hand(gt, anchors[j]), strict=True)
            p[j] = probability[j][labels[i]] * math.exp(-0.75 * sum(smooth_l1(a - b) for a, b in pairs))
            weight[j] = kept[j] / max(1 - p[j], 1e-12)
        parts = {j: weight[j] * p[j] / max(sum(weight.values()), 1e-12) for j in bag}
        bags.append(parts)
        mean_max = sum(parts.values())
        positive += -math.log(mean_max) if mean_max > math.exp(-100) else 100
    negative = 0.0
    for j in range(n):
        for c, p in enumerate(probability[j]):
            found = 0.0
            for i, label in enumerate(labels):
                if label == c:
                    best = max(max(iou[i]), thr + 1e-12)
                    found = max(found, min(max((iou[i][j] - thr) / (best - thr), 0), 1))
            wrong = min(max(p * (1 - found), 1e-12), 1 - 1e-12)
            negative -= kept[j] * wrong**gamma * math.log1p(-wrong)
    return alpha * positive, (1 - alpha) * negative, bags


def labels_by_loop(bags, n):
    """Each gt's points until half is reached; a contested point to the larger share."""
    takers = [{} for _ in range(n)]
    for i, bag in enumerate(bags):
        total, before = sum(bag.values()), 0.0
        for j in sorted(bag, key=lambda j: (-bag[j], j)):
            if before < total / 2 and bag[j] > 0:
                takers[j][i] = bag[j] / total
            before += bag[j]
    return [max(shares, key=shares.get) if shares else -1 for shares in takers]


@pytest.mark.parametrize(("stage", "scene"), KINDS)
def test_losses_and_labels_are_those_of_the_definition(stage, scene):
    for seed, options in enumerate(({}, {"pre_anchor_topk": 7, "bbox_thr": 0.3, "gamma": 1.5, "alpha": 0.25})):
        points, predictions, targets = make_case(
            seed, (64, 96), num_gt=5, num_classes=3, stage=stage, scene=scene, strides=(8, 16)
        )
        assignment = FreeAnchor(**options)(points, predictions, targets)
        kept = torch.arange(len(points)) % 5 > 0
        for mask in (torch.ones_like(kept), kept):
            chosen = {"pre_anchor_topk": 50, "bbox_thr": 0.6, "gamma": 2, "alpha": 0.5} | options
            positive, negative, bags = losses_by_loop(
                points, predictions, targets, mask.tolist(), *(chosen[name] for name in chosen)
            )
            losses = assignment.make_losses(predictions, mask)
            assert float(losses["positive"].total) == pytest.approx(positive, rel=1e-8)
            assert float(losses["negative"].total) == pytest.approx(negative, rel=1e-8)
            assert float(losses["positive"].count) == 5
            assert float(losses["negative"].count) == 5 * chosen["pre_anchor_topk"]
            if mask.all():
                assert assignment.matched_gt.tolist() == labels_by_loop(bags, len(points))


@pytest.mark.parametrize("record", read("freeanchor"), ids=lambda record: "{stage} {scene}".format(**record["case"]))
def test_losses_and_gradients_are_those_that_mmdetection_gave(record):
    assert sizes(answer(FreeAnchor(), make_case(**record["case"]))) == pytest.approx(record["answer"], rel=1e-5)


def test_an_anchor_that_has_found_the_object_is_not_asked_to_call_it_background():
    """The best predicted box of a gt is safe, one at the threshold and one of another class are not."""
    points = AnchorPoints.for_image((8, 24), strides=(8,), dtype=torch.float64)
    targets = Targets(torch.tensor([[0.0, 0.0, 10.0, 10.0]], dtype=torch.float64), torch.tensor([1]))
    boxes = torch.tensor([[0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 6.0], [0.0, 0.0, 10.0, 7.5]], dtype=torch.float64)
    predictions = Predictions(torch.zeros(3, 2, dtype=torch.float64), boxes)
    bags = FreeAnchor().bags(points, predictions, targets)
    expected = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    assert torch.allclose(bags.found, expected, atol=1e-9)


@pytest.mark.parametrize("shift, nearest", [((200.0, 0.0), "right"), ((-200.0, 0.0), "left")])
def test_a_gt_outside_the_image_has_the_anchors_nearest_to_it_in_its_bag(shift, nearest):
    points = AnchorPoints.for_image((64, 64), strides=(8,), dtype=torch.float64)
    gt = torch.tensor([[30.0, 30.0, 34.0, 34.0]], dtype=torch.float64)
    gt = gt + torch.tensor(shift, dtype=torch.float64).repeat(2)
    predictions = Predictions(torch.zeros(64, 1, dtype=torch.float64), points.boxes(2.0))
    bag = FreeAnchor(pre_anchor_topk=4).bags(points, predictions, Targets(gt, torch.tensor([0]))).point[0]
    assert points.xy[bag, 0].tolist() == [60.0 if nearest == "right" else 4.0] * 4


@pytest.mark.parametrize("name", STRANGE)
def test_strange_gts_have_finite_losses_and_gradients(name):
    for case in (strange_case(name), strange_case(name, num_classes=3, strides=(8,)), few_points()):
        assignment = sound(FreeAnchor(), case)
        assert not assignment.positive.all() or len(case.points) < 5
        assert all(value.isfinite().all() for value in answer(FreeAnchor(), case).values())


def test_predicted_boxes_of_no_size_or_inverted_have_finite_losses_and_gradients():
    points, predictions, targets = make_case(0)
    corner = points.xy.repeat(1, 2)
    for boxes in (corner, corner + torch.tensor([3.0, 3.0, -3.0, -3.0]), 1e7 * corner):
        case = points, Predictions(predictions.logits, boxes), targets
        found = answer(FreeAnchor(), type(make_case(0))(*case))
        assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pre_anchor_topk": 0}, "pre_anchor_topk must be a whole number of at least 1, not 0"),
        ({"bbox_thr": 1.0}, r"bbox_thr must be at least 0 and below 1, not 1\.0"),
        ({"gamma": 0.5}, r"gamma must be finite and at least 1, not 0\.5"),
        ({"alpha": 1.5}, r"alpha must be in 0\.\.1, not 1\.5"),
        ({"reg_weight": -1.0}, r"reg_weight must be finite and not negative, not -1\.0"),
        ({"reg_beta": 0.0}, r"reg_beta must be positive and finite, not 0\.0"),
        ({"scale": float("nan")}, "scale must be positive and finite, not nan"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        FreeAnchor(**options)
