"""Noisy anchors against loops written from the definition, and what their soft labels and weights promise."""

import math

import pytest
import torch

from otalab import boxes as box_ops
from otalab.assign import Predictions, Targets
from otalab.assign.noisy_anchors import NoisyAnchors
from otalab.errors import InputError

from .cases import KINDS, SCENES, STAGES, make_case
from .strange_gts import STRANGE, few_points, sound, strange_case, swapped


def labels_by_loop(points, boxes, topk, scale=8):
    """Each gt nominates the anchors of highest IoU, above 0; who is nominated learns the gt of its highest IoU."""
    anchors = points.boxes(scale)
    iou = [box_ops.iou(anchors, box).tolist() for box in boxes]
    nominated = set()
    for row in iou:
        ranking = sorted(range(len(anchors)), key=lambda point: (-row[point], point))
        nominated |= {point for point in ranking[:topk] if row[point] > 0}
    best = [max(range(len(boxes)), key=lambda gt: (iou[gt][point], -gt)) for point in range(len(anchors))]
    return [best[point] if point in nominated else -1 for point in range(len(anchors))]


def soft_by_loop(case, labels, alpha, gamma, rescale):
    """(score, weight) of each positive, by the formulas of the paper and, if `rescale`, of the authors' code."""
    _, predictions, targets = case
    points = [point for point, gt in enumerate(labels) if gt >= 0]
    loc = [float(box_ops.iou(predictions.boxes[point], targets.boxes[labels[point]])) for point in points]
    logits = [float(predictions.logits[point, targets.labels[labels[point]]]) for point in points]
    cls = [1 / (1 + math.exp(-logit)) for logit in logits]

    def over_mean(values):
        mean = max(sum(values) / len(values), 1e-6)
        return [value / mean for value in values]

    def mix(a, b):
        return [alpha * x + (1 - alpha) * y for x, y in zip(a, b, strict=True)]

    f = [[1 / max(1 - x, 1e-6) for x in values] for values in (loc, cls)]
    weight, score = over_mean([x**gamma for x in mix(*f)]), mix(loc, cls)
    if rescale:
        weight = [x**gamma for x in mix(*map(over_mean, f))]
        score, least = mix(over_mean(loc), over_mean(cls)), sum(loc) / len(loc)
        low, high = min(score), max(score)
        score = [least + (value - low) / max(high - low, 1e-6) * (1 - least) for value in score]
    return dict(zip(points, score, strict=True)), dict(zip(points, weight, strict=True))


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("options", [{}, {"topk": 5, "alpha": 0.3, "gamma": 0.7, "rescale": True, "scale": 6.0}])
def test_labels_scores_and_weights_are_those_of_the_definition(scene, options):
    settings = {"topk": 30, "alpha": 0.75, "gamma": 1.0, "rescale": False, "scale": 8.0} | options
    for seed, stage in enumerate(STAGES[1:]):
        case = make_case(seed, (96, 128), num_gt=5, num_classes=3, stage=stage, scene=scene)
        assignment = NoisyAnchors(**options)(*case)
        labels = labels_by_loop(case.points, case.targets.boxes, settings["topk"], settings["scale"])
        assert assignment.matched_gt.tolist() == labels
        if not assignment.positive.any():
            continue
        score, weight = soft_by_loop(case, labels, settings["alpha"], settings["gamma"], settings["rescale"])
        expected = [score.get(point, 0.0) for point in range(len(labels))]
        assert assignment.score.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)
        expected = [weight.get(point, 1.0) for point in range(len(labels))]
        assert assignment.label_weight.tolist() == pytest.approx(expected, rel=1e-6)
        assert torch.equal(assignment.box_weight, assignment.label_weight)


@pytest.mark.parametrize(("stage", "scene"), KINDS)
def test_scores_are_probabilities_and_weights_have_a_mean_of_one_at_every_stage(stage, scene):
    for seed in range(3):
        case = make_case(seed, stage=stage, scene=scene)
        for rescale in (True, False):
            assignment = sound(NoisyAnchors(rescale=rescale), case)
            positive = assignment.positive
            assert positive.any()
            assert (assignment.score[positive] <= 1 + 1e-9).all()
            assert not assignment.score[~positive].any()
            assert (assignment.label_weight[~positive] == 1).all()
            assert float(assignment.label_weight[positive].mean()) == pytest.approx(1)


def test_the_better_prediction_has_the_higher_score_and_weight():
    points, predictions, targets = make_case(0, num_gt=1, num_classes=1, stage="early")
    point = int(NoisyAnchors()(points, predictions, targets).positive.nonzero()[0])
    boxes, logits = predictions.boxes.clone(), predictions.logits.clone()
    boxes[point], logits[point] = targets.boxes[0] + 1, 2.0
    better = NoisyAnchors(rescale=True)(points, Predictions(logits, boxes), targets)
    assert int(better.score.argmax()) == int(better.box_weight.argmax()) == point
    assert float(better.score[point]) == pytest.approx(1)


def test_a_single_positive_is_told_the_iou_that_it_has():
    points, predictions, targets = make_case(0, num_gt=1, num_classes=1)
    assignment = NoisyAnchors(topk=1, rescale=True)(points, predictions, targets)
    point = int(assignment.positive.nonzero())
    iou = float(box_ops.iou(predictions.boxes[point], targets.boxes[0]))
    assert float(assignment.score[point]) == pytest.approx(iou)
    assert float(assignment.label_weight[point]) == pytest.approx(1)


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("strides", [(8, 16, 32, 64, 128), (8,)])
def test_strange_gts_disturb_nobody(name, strides):
    assignment = sound(NoisyAnchors(), strange_case(name, strides=strides))
    assert not assignment.positive.all()
    assert assignment.positive.any() == (name != "only outside")
    if name in ("zero area", "inverted") or (name == "outside" and len(strides) == 1):  # large squares reach outside
        assert assignment.counts[0] > 0
        assert not assignment.counts[1:].any()


def test_fewer_points_than_candidates_are_no_error():
    assert sound(NoisyAnchors(), few_points()).positive.all()  # every anchor of 128 px holds every gt


def test_the_order_of_gts_does_not_matter():
    case = make_case(0, num_gt=12, scene="crowd")
    other, back = swapped(case)
    a, b = NoisyAnchors()(*case), NoisyAnchors()(*other)
    assert back[b.matched_gt].tolist() == a.matched_gt.tolist()
    assert torch.allclose(a.score, b.score)


def test_an_image_without_gts_has_scores_too_so_that_every_batch_has_one_kind_of_loss():
    points, predictions, _ = make_case(0, num_gt=0)
    assignment = NoisyAnchors()(points, predictions, Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    assert not assignment.positive.any()
    assert assignment.score.tolist() == [0.0] * len(points)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, "topk must be a whole number of at least 1, not 0"),
        ({"scale": 0.0}, "scale must be positive and finite, not 0.0"),
        ({"alpha": 1.5}, r"alpha must be in 0\.\.1, not 1\.5"),
        ({"gamma": -1.0}, "gamma must be finite and not negative, not -1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        NoisyAnchors(**options)
