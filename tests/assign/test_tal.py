"""Task-aligned assignment against loops written from its definition, and recorded answers of mmdetection."""

import math

import pytest
import torch
from torchvision.ops import complete_box_iou

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Predictions, Targets
from otalab.assign.tal import ULTRALYTICS, TaskAligned
from otalab.errors import InputError

from .cases import KINDS, STAGES, make_case
from .golden.cases import positives, read


def tal_by_loop(points, predictions, targets, topk=13, alpha=1.0, beta=6.0):
    """(matched_gt, scores) as a person would find them."""
    n, xy, gts = len(points), points.xy.tolist(), targets.boxes.tolist()
    iou = box_ops.iou(predictions.boxes, targets.boxes[:, None]).tolist()
    aligned, takers = [], [[] for _ in range(n)]
    for i, (left, top, right, bottom) in enumerate(gts):
        logits = predictions.logits[:, targets.labels[i]].tolist()
        aligned.append([(1 / (1 + math.exp(-logits[j]))) ** alpha * iou[i][j] ** beta for j in range(n)])
        for j in sorted(range(n), key=lambda j: -aligned[i][j])[:topk]:
            x, y = xy[j]
            if aligned[i][j] > 0 and min(x - left, y - top, right - x, bottom - y) > 0.01:
                takers[j].append(i)
    labels = [max(some, key=lambda i: iou[i][j]) if some else -1 for j, some in enumerate(takers)]
    scores = [0.0] * n
    for i in range(len(gts)):
        mine = [j for j in range(n) if labels[j] == i]
        for j in mine:
            scores[j] = aligned[i][j] / (max(aligned[i][j] for j in mine) + 1e-7) * max(iou[i][j] for j in mine)
    return labels, scores


@pytest.mark.parametrize(("stage", "scene"), KINDS)
def test_labels_and_scores_are_those_of_the_definition(stage, scene):
    for seed, options in enumerate(({}, {"topk": 4, "alpha": 0.5, "beta": 2.0})):
        case = make_case(seed, (64, 96), num_gt=7, num_classes=3, stage=stage, scene=scene)
        assignment = TaskAligned(**options)(*case)
        labels, scores = tal_by_loop(*case, **options)
        assert assignment.matched_gt.tolist() == labels
        assert assignment.score.tolist() == pytest.approx(scores, rel=1e-9)
        assert torch.equal(assignment.box_weight, assignment.score)
        assert assignment.label_weight is None


def ultralytics_by_loop(points, predictions, targets, topk=10, alpha=0.5, beta=6.0, least=16.0):
    """matched_gt where only points inside a gt count among its best, and who loses a contest may still gain it."""
    n, gts = len(points), targets.boxes.tolist()
    iou = complete_box_iou(targets.boxes, predictions.boxes).clamp(min=0).tolist()
    inside, takers = [], [[] for _ in range(n)]
    for i, (left, top, right, bottom) in enumerate(gts):
        grow = [max(least - side, 0) / 2 for side in (right - left, bottom - top)]
        low, high = (left - grow[0], top - grow[1]), (right + grow[0], bottom + grow[1])
        inside.append([low[0] < x < high[0] and low[1] < y < high[1] for x, y in points.xy.tolist()])
        score = predictions.logits[:, targets.labels[i]].sigmoid().tolist()
        aligned = [score[j] ** alpha * iou[i][j] ** beta for j in range(n)]
        mine = [j for j in range(n) if inside[i][j] and aligned[j] > 0]
        for j in sorted(mine, key=lambda j: -aligned[j])[:topk]:
            takers[j].append(i)
    rivals = [[i for i in range(len(gts)) if inside[i][j]] if len(some) > 1 else some for j, some in enumerate(takers)]
    return [max(some, key=lambda i: iou[i][j]) if some else -1 for j, some in enumerate(rivals)]


@pytest.mark.parametrize(("stage", "scene"), KINDS)
def test_labels_of_ultralytics_reading_are_those_of_its_definition(stage, scene):
    case = make_case(0, (64, 96), num_gt=7, num_classes=3, stage=stage, scene=scene)
    found = TaskAligned(**ULTRALYTICS)(*case)
    assert found.matched_gt.tolist() == ultralytics_by_loop(*case)
    assert found.score[found.positive].gt(0).all() and not found.score[~found.positive].any()


@pytest.mark.parametrize("record", read("tal"), ids=lambda record: "{stage} {scene}".format(**record["case"]))
def test_labels_and_scores_are_those_that_mmdetection_gave(record):
    assignment = TaskAligned()(*make_case(**record["case"], dtype=torch.float32))
    assert positives(assignment.matched_gt.tolist()) == record["positives"]
    recorded = torch.zeros_like(assignment.score)
    for point, score in record["score"].items():
        recorded[int(point)] = score
    assert torch.allclose(assignment.score, recorded, rtol=1e-4, atol=1e-12)


def test_the_best_aligned_positive_of_a_gt_scores_its_highest_iou():
    points, predictions, targets = make_case(2, num_gt=5, stage="late")
    assignment = TaskAligned()(points, predictions, targets)
    for i, box in enumerate(targets.boxes):
        mine = assignment.matched_gt == i
        if mine.any():
            best = box_ops.iou(predictions.boxes[mine], box).max()
            assert float(assignment.score[mine].max()) == pytest.approx(float(best), rel=1e-4)
    assert (assignment.score[~assignment.positive] == 0).all()


def test_points_outside_a_gt_use_up_its_places():
    """Thirteen perfect boxes from outside leave nothing to the points inside."""
    points = AnchorPoints.for_image((64, 64), strides=(8,), dtype=torch.float64)
    gt = torch.tensor([[0.0, 0.0, 20.0, 20.0]], dtype=torch.float64)
    boxes = gt.repeat(len(points), 1)
    inside = (points.xy < 20).all(dim=1)
    logits = torch.zeros(len(points), 1).masked_fill(inside[:, None], -1.0)
    targets = Targets(gt, torch.tensor([0]))
    assert not TaskAligned()(points, Predictions(logits, boxes), targets).positive.any()
    assert TaskAligned()(points, Predictions(-logits, boxes), targets).counts.tolist() == [int(inside.sum())]


@pytest.mark.parametrize(("margin", "count"), [(0.005, 0), (0.02, 1)])
def test_a_point_must_lie_a_hundredth_of_a_pixel_inside_its_gt(margin, count):
    points = AnchorPoints.for_image((8, 8), strides=(8,), dtype=torch.float64)
    gt = torch.tensor([[4.0 - margin, 0.0, 8.0, 8.0]], dtype=torch.float64)
    assignment = TaskAligned()(points, Predictions(torch.zeros(1, 1), gt), Targets(gt, torch.tensor([0])))
    assert assignment.counts.tolist() == [count]


def test_a_contested_point_goes_to_the_highest_iou_of_the_gts_that_took_it():
    points = AnchorPoints.for_image((8, 8), strides=(8,), dtype=torch.float64)
    gts = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 10.0]], dtype=torch.float64)
    logits = torch.tensor([[5.0, -5.0]])
    for height, owner in ((8.0, 0), (10.0, 1)):
        boxes = torch.tensor([[0.0, 0.0, 8.0, height]], dtype=torch.float64)
        assignment = TaskAligned()(points, Predictions(logits, boxes), Targets(gts, torch.tensor([0, 1])))
        assert assignment.matched_gt.tolist() == [owner]


@pytest.mark.parametrize(
    "gt",
    [
        pytest.param([900.0, 900.0, 960.0, 960.0], id="outside the image"),
        pytest.param([60.0, 60.0, 60.0, 60.0], id="no area"),
        pytest.param([100.0, 100.0, 40.0, 40.0], id="inverted"),
        pytest.param([100.0, 40.0, 40.0, 100.0], id="inverted in one axis"),
    ],
)
def test_a_gt_that_no_box_overlaps_gets_nothing_and_disturbs_nobody(gt):
    points, predictions, _ = make_case(0, num_gt=0, stage="early")
    boxes = torch.tensor([[40.0, 40.0, 100.0, 100.0], gt], dtype=torch.float64)
    both = TaskAligned()(points, predictions, Targets(boxes, torch.tensor([0, 1])))
    alone = TaskAligned()(points, predictions, Targets(boxes[:1], torch.tensor([0])))
    assert both.matched_gt.tolist() == alone.matched_gt.tolist()
    assert both.counts[0] > 0
    assert torch.equal(both.score, alone.score)


@pytest.mark.parametrize("stage", STAGES)
def test_crowds_duplicates_and_fewer_points_than_topk_are_no_trouble(stage):
    for case in (
        make_case(1, num_gt=60, scene="crowd", stage=stage),
        make_case(1, num_gt=4, scene="duplicates", stage=stage),
        make_case(1, (16, 16), num_gt=2, stage=stage, strides=(8,)),
        make_case(1, num_gt=3, num_classes=1, stage=stage),
    ):
        assignment = TaskAligned()(*case)
        assert assignment.score.isfinite().all()
        assert ((assignment.score >= 0) & (assignment.score <= 1)).all()
        assert len(assignment.matched_gt) < 13 or not assignment.positive.all()


def test_of_equal_gts_the_first_takes_all():
    counts = TaskAligned()(*make_case(1, num_gt=4, scene="duplicates")).counts.tolist()
    assert counts[0] > 0
    assert counts[1] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, "topk must be a whole number of at least 1, not 0"),
        ({"alpha": -1.0}, r"alpha must be finite and not negative, not -1\.0"),
        ({"beta": float("inf")}, "beta must be finite and not negative, not inf"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TaskAligned(**options)
