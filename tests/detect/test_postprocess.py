import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from otalab.assign import AnchorPoints, Predictions
from otalab.detect.postprocess import PostProcess

SIZE = (64, 96)
INF = float("inf")


def points(strides=(8, 16, 32)) -> AnchorPoints:
    return AnchorPoints.for_image(SIZE, strides)


def predictions(seed: int, num_classes: int = 3) -> Predictions:
    """Overlapping boxes, some beyond the image, with scores on both sides of the threshold."""
    generator = torch.Generator().manual_seed(seed)
    n = len(points())
    centre = torch.rand(n, 2, generator=generator) * torch.tensor([140.0, 100.0]) - 20
    half = 4 + 20 * torch.rand(n, 2, generator=generator)
    logits = 2 * torch.randn(n, num_classes, generator=generator) - 2
    return Predictions(logits, torch.cat((centre - half, centre + half), dim=1), torch.randn(n, generator=generator))


def step_by_step(process: PostProcess, points: AnchorPoints, p: Predictions, size: tuple[int, int]) -> list[tuple]:
    """(score, label, box), best first, by loops."""
    candidates = []
    for level in sorted(set(points.level.tolist())):
        on_level = []
        for i in range(len(points)):
            for c in range(p.logits.shape[1]):
                score = (p.logits[i, c].sigmoid() * p.quality[i].sigmoid()).sqrt().item()
                if points.level[i] == level and score > process.score_threshold:
                    on_level.append((score, c, p.boxes[i].tolist()))
        candidates += sorted(on_level, reverse=True)[: process.per_level]
    kept: list[tuple] = []
    for score, c, box in sorted(candidates, reverse=True):
        if all(c != other or iou(box, taken) <= process.nms_iou for _, other, taken in kept):
            kept.append((score, c, box))
    height, width = size
    clipped = []
    for score, c, (x1, y1, x2, y2) in kept[: process.per_image]:
        box = [min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)]
        if box[0] < box[2] and box[1] < box[3]:
            clipped.append((score, c, box))
    return clipped


def iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, wide) * max(0.0, high)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@given(seed=st.integers(0, 10_000), per_level=st.sampled_from([5, 40, 1000]), per_image=st.sampled_from([1, 7, 100]))
@settings(deadline=None, max_examples=15)
def test_detections_equal_those_found_step_by_step(seed, per_level, per_image):
    process = PostProcess(per_level=per_level, per_image=per_image)
    p = predictions(seed)
    found = process(points(), p, SIZE)
    expected = step_by_step(process, points(), p, SIZE)
    assert found["labels"].tolist() == [c for _, c, _ in expected]
    assert_close(found["scores"], torch.tensor([s for s, _, _ in expected]))
    assert_close(found["boxes"], torch.tensor([b for _, _, b in expected]).reshape(-1, 4))


def test_the_settings_are_those_of_the_authors():
    assert PostProcess() == PostProcess(score_threshold=0.05, per_level=1000, nms_iou=0.6, per_image=100)


def at(*rows: tuple[float, int, float, tuple]) -> tuple[AnchorPoints, Predictions]:
    """One point for each (class probability, class, quality probability, box), all other classes impossible."""
    logits = torch.full((len(rows), 3), -INF)
    for i, (probability, label, _, _) in enumerate(rows):
        logits[i, label] = torch.logit(torch.tensor(probability))
    quality = torch.logit(torch.tensor([row[2] for row in rows]))
    boxes = torch.tensor([row[3] for row in rows], dtype=torch.float32)
    n = len(rows)
    where = AnchorPoints(torch.zeros(n, 2), torch.full((n,), 8.0), torch.zeros(n, dtype=torch.int64))
    return where, Predictions(logits, boxes, quality)


BOX, NEAR, FAR = (0.0, 0.0, 20.0, 20.0), (1.0, 0.0, 21.0, 20.0), (50.0, 40.0, 70.0, 60.0)


def test_a_score_is_the_geometric_mean_of_class_and_quality_before_the_threshold():
    # sqrt(0.04 * 0.09) = 0.06 is above 0.05, though each factor's product is not; sqrt(0.04 * 0.04) is below
    found = PostProcess()(*at((0.04, 0, 0.09, BOX), (0.04, 1, 0.04, FAR)), SIZE)
    assert found["scores"].tolist() == pytest.approx([0.06])


def test_without_a_quality_branch_the_score_is_the_class_probability():
    where, p = at((0.3, 2, 0.5, BOX))
    found = PostProcess()(where, Predictions(p.logits, p.boxes), SIZE)
    assert found["scores"].tolist() == pytest.approx([0.3])


def test_overlapping_boxes_of_one_class_leave_the_best_and_other_classes_stay():
    found = PostProcess()(*at((0.5, 0, 0.9, NEAR), (0.9, 0, 0.9, BOX), (0.4, 1, 0.9, BOX)), SIZE)
    assert found["labels"].tolist() == [0, 1]
    assert found["boxes"].tolist() == [list(BOX), list(BOX)]


def test_a_box_that_reaches_far_out_of_the_image_suppresses_none_of_another_class():
    """Classes are told apart by shifting boxes, and a box with negative corners is shifted into another class."""
    outside = (-101.0, -101.0, 4.0, 4.0)
    found = PostProcess()(*at((0.9, 0, 0.9, (0.0, 0.0, 100.0, 100.0)), (0.8, 1, 0.9, outside)), (100, 100))
    assert found["labels"].tolist() == [0, 1]


def test_boxes_are_clipped_after_the_suppression_not_before():
    # inside the image both are (0, 0, 20, 20), as they are predicted their IoU is 1/3
    wide, narrow = (-40.0, 0.0, 20.0, 20.0), BOX
    found = PostProcess()(*at((0.9, 0, 0.9, wide), (0.8, 0, 0.9, narrow)), SIZE)
    assert found["boxes"].tolist() == [list(BOX), list(BOX)]


def test_of_many_boxes_the_best_hundred_are_left_and_sorted():
    rows = [(0.1 + 0.8 * i / 150, 0, 0.9, (20.0 * i, 0.0, 20.0 * i + 10, 10.0)) for i in range(150)]
    found = PostProcess()(*at(*rows), (20, 4000))
    assert len(found["scores"]) == 100
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
    assert found["boxes"][:, 0].tolist() == [20.0 * i for i in range(149, 49, -1)]


def test_an_image_may_hold_nothing():
    found = PostProcess()(*at((0.001, 0, 0.001, BOX)), SIZE)
    assert found["boxes"].shape == (0, 4) and found["labels"].shape == found["scores"].shape == (0,)
    assert found["labels"].dtype == torch.int64
