"""The crowds' metrics on cases worked by hand; those of the docstrings are run too."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otalab.lab import crowd_metrics as module
from otalab.lab.crowd_metrics import Picture, average_precision, crowd_metrics, jaccard_index, judged, miss_rate

A, B, C = [0, 0, 10, 10], [20, 0, 10, 10], [40, 0, 10, 10]  # xywh px, apart from each other
AWAY = [70, 70, 10, 10]
SIDE = 100  # of the images, px


def truth(*images: list, names=("person",)) -> dict:
    """Each image a list of gts: a box, or (box, iscrowd), or (box, iscrowd, category)."""
    rows = []
    for image, gts in enumerate(images, 1):
        for gt in gts:
            box, crowd, category = (*gt, *(0, 1)[len(gt) - 1 :]) if isinstance(gt, tuple) else (gt, 0, 1)
            row = {"id": len(rows) + 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
            rows.append(row | {"area": box[2] * box[3]})
    return {
        "images": [{"id": i + 1, "width": SIDE, "height": SIDE, "file_name": str(i)} for i in range(len(images))],
        "annotations": rows,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
    }


def said(*rows: tuple) -> list[dict]:
    """Detections: (image, box, score) or (image, box, score, category)."""
    keys = ("image_id", "bbox", "score", "category_id")
    return [dict(zip(keys, (*row, 1)[:4], strict=True)) for row in rows]


def test_the_cases_worked_in_the_docstrings_hold():
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted >= 8


def test_three_metrics_of_one_image_worked_by_hand():
    """Right, wrong, right of three gts: AP 19/36 as in the docstring; one image, so FPPI is 0, 1, 1.

    At every reference FPPI the second detection is the first that reaches it, and 2 of 3 gts are missed there. JI is
    best below the worst score: 2 pairs, 3 gts, 3 detections.
    """
    found = crowd_metrics(truth([A, B, C]), said((1, A, 0.9), (1, AWAY, 0.8), (1, B, 0.7)))
    assert found["AP"] == found["AP/person"] == pytest.approx(19 / 36)
    assert found["MR-2"] == pytest.approx(2 / 3)
    assert found["JI"] == pytest.approx(2 / (3 + 3 - 2))


def test_a_detection_in_a_region_to_ignore_is_neither_right_nor_wrong():
    region = ([50, 50, 40, 40], 1)
    half, more = [40, 60, 20, 10], [41, 60, 20, 10]  # 1/2 and 11/20 of them inside
    assert crowd_metrics(truth([A, region]), said((1, more, 0.9), (1, A, 0.8)))["AP"] == 1
    assert crowd_metrics(truth([A, region]), said((1, half, 0.9), (1, A, 0.8)))["AP"] == 0.25  # from 0 to 1/2
    several = said((1, more, 0.9), (1, [60, 60, 5, 5], 0.85), (1, A, 0.8))
    found = crowd_metrics(truth([A, region]), several)
    assert (found["AP"], found["MR-2"], found["JI"]) == (1, 0, 1)


def test_a_gt_is_taken_before_a_region_to_ignore_and_only_once():
    everywhere = ([0, 0, 100, 100], 1)
    found = crowd_metrics(truth([A, everywhere]), said((1, A, 0.9), (1, A, 0.8)))  # the second is ignored
    assert (found["AP"], found["MR-2"], found["JI"]) == (1, 0, 1)
    found = crowd_metrics(truth([A]), said((1, A, 0.9), (1, A, 0.8)))  # the second is wrong, and late
    assert (found["AP"], found["MR-2"], found["JI"]) == (1, 0, 1)
    found = crowd_metrics(truth([A, B]), said((1, A, 0.9), (1, A, 0.8)))
    assert (found["AP"], found["MR-2"], found["JI"]) == (0.5, 0.5, 0.5)


def test_a_missed_gt_in_a_region_to_ignore_counts_for_ap_and_not_for_ji():
    found = crowd_metrics(truth([A, B, ([18, 0, 14, 14], 1)]), said((1, A, 0.9)))
    assert (found["AP"], found["MR-2"], found["JI"]) == (0.5, 0.5, 1)


def test_ap_wants_more_than_half_an_iou_and_ji_half_of_one():
    found = crowd_metrics(truth([A]), said((1, [0, 0, 10, 5], 0.9)))
    assert (found["AP"], found["MR-2"], found["JI"]) == (0, 1, 1)


def test_ji_pairs_as_many_as_can_be_where_the_best_score_takes_the_wrong_one():
    """The first detection overlaps both gts, the second only the first gt: greedy pairs one, JI both."""
    first, second = [0, 0, 10, 10], [0, 4, 10, 10]
    low = [0, 0, 10, 6]  # IoU 0.6 with the first, 2/12 with the second
    both = [0, 1.9, 10, 10]  # IoU 81/119 with the first, 79/121 with the second
    found = crowd_metrics(truth([first, second]), said((1, both, 0.9), (1, low, 0.8)))
    assert found["AP"] == pytest.approx(0.5) and found["JI"] == 1


def test_ji_is_a_mean_over_images_that_hold_something_at_the_best_threshold():
    three = truth([A, B], [A], [])
    found = crowd_metrics(three, said((1, A, 0.9), (1, B, 0.9), (2, AWAY, 0.35)))
    assert found["JI"] == pytest.approx((1 + 0) / 2)  # the third image is empty
    found = crowd_metrics(three, said((1, A, 0.9), (1, B, 0.9), (2, A, 0.9), (3, AWAY, 0.35)))
    assert found["JI"] == pytest.approx((1 + 1) / 2)  # above 0.4; below it is 2/3


def test_a_mean_is_taken_over_the_classes_that_have_a_gt():
    set_ = truth([A, (B, 0, 2)], names=("person", "dog", "cat"))
    found = crowd_metrics(set_, said((1, A, 0.9), (1, B, 0.9, 1), (1, AWAY, 0.5, 3)))
    assert (found["AP/person"], found["AP/dog"], found["AP"]) == (1, 0, 0.5)
    assert (found["MR-2/dog"], found["JI/dog"]) == (1, 0)
    assert not any("cat" in name for name in found)


@pytest.mark.parametrize("results", [[], said((1, A, 0.9))])
def test_without_a_gt_all_are_nan(results):
    found = crowd_metrics(truth([(B, 1)]), results)
    assert list(found) == ["AP", "MR-2", "JI"] and all(math.isnan(value) for value in found.values())


def test_without_a_detection_all_is_missed():
    found = crowd_metrics(truth([A], []), [])
    assert (found["AP"], found["MR-2"], found["JI"]) == (0, 1, 0)
    found = crowd_metrics(truth([A, ([0, 0, 20, 20], 1)]), [])
    assert found["JI"] == 0  # nothing counts


def test_a_gt_outside_its_image_is_ignored():
    found = crowd_metrics(truth([A, [-30, 5, 20, 20]]), said((1, A, 0.9)))
    assert (found["AP"], found["MR-2"], found["JI"]) == (1, 0, 1)


def test_a_box_beyond_the_image_is_compared_by_what_lies_in_it():
    """A whole person of 40 x 10 px, of which 10 x 10 px can be seen: a clipped detection finds it."""
    found = crowd_metrics(truth([[-30, 0, 40, 10]]), said((1, [0, 0, 10, 10], 0.9)))
    assert (found["AP"], found["MR-2"], found["JI"]) == (1, 0, 1)


side = st.floats(1, 60)
boxes = st.lists(st.tuples(st.floats(-40, 95), st.floats(-40, 95), side, side), min_size=1, max_size=8)


def seen(box) -> bool:
    return box[0] + box[2] > 1 and box[1] + box[3] > 1


@pytest.mark.parametrize("clip", [False, True], ids=["as they are", "clipped"])
@settings(max_examples=30, deadline=None)
@given(images=st.lists(boxes, min_size=1, max_size=4), seed=st.integers(0, 999))
def test_perfect_boxes_have_ap_1_mr_0_and_ji_1(clip, images, seed):
    kept = [[list(box) for box in image if seen(box)] for image in images]
    kept[0] = kept[0] or [A]
    if clip:
        corners = [[(max(x, 0), max(y, 0), min(x + w, SIDE), min(y + h, SIDE)) for x, y, w, h in row] for row in kept]
        kept = [[[x, y, right - x, bottom - y] for x, y, right, bottom in row] for row in corners]
    scores = np.random.default_rng(seed)
    results = [(i, box, float(scores.uniform(0.01, 1))) for i, image in enumerate(kept, 1) for box in image]
    found = crowd_metrics(truth(*kept), said(*results))
    assert found["AP"] == 1 and found["MR-2"] == 0 and found["JI"] == 1


@settings(max_examples=60, deadline=None)
@given(right=st.lists(st.booleans(), min_size=1, max_size=30), missed=st.integers(1, 5), images=st.integers(1, 300))
def test_curves_equal_loops_over_their_definitions(right, missed, images):
    gts, right = sum(right) + missed, np.array(right)
    area, last, lowest, hits = 0.0, None, [], 0
    curve = []
    for rank, ok in enumerate(right, 1):
        hits += bool(ok)
        precision = hits / rank
        area += (ok / gts) * (precision + (precision if last is None else last)) / 2
        last = precision
        curve.append(((rank - hits) / images, 1 - hits / gts))
    for reference in module.FPPI:
        lowest.append(next((rate for fppi, rate in curve if fppi >= reference), curve[-1][1]))
    assert average_precision(right, gts) == pytest.approx(area)
    assert miss_rate(right, gts, images) == pytest.approx(math.prod(lowest) ** (1 / 9))


def test_equal_scores_keep_their_order_and_every_image_counts_for_fppi():
    pictures = [Picture(*(torch.zeros(0, 4, dtype=torch.float64),) * 3, torch.zeros(0, dtype=torch.float64))] * 99
    box = torch.tensor([[0, 0, 9, 9]], dtype=torch.float64)
    pictures.append(Picture(box, box[:0], torch.cat((box + 50, box)), torch.tensor([0.5, 0.5], dtype=torch.float64)))
    right, gts = judged(pictures)
    assert right.tolist() == [False, True] and gts == 1
    assert miss_rate(right, gts, len(pictures)) == 0  # the 1 at FPPI 0.01 and the 0 at the others
    assert jaccard_index(pictures) == 0.5


def share(a, b, of_a: bool = False) -> float:
    """Overlap of two boxes, xyxy, over their union or over the first one's area."""
    wide, high = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (areas[0] if of_a else sum(areas) - wide * high)


@pytest.mark.parametrize("seed", range(8))
def test_detections_are_judged_as_plain_loops_judge_them(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (26, 2))
    every = np.concatenate((corners, corners + rng.uniform(8, 30, (26, 2))), axis=1)
    gts, regions = every[:9], every[9:12] + np.array([-8, -8, 8, 8])
    found = np.concatenate((every[12:], gts + rng.normal(0, 2, (9, 4))))
    scores = rng.permutation(len(found)) / len(found)
    free, expected = set(range(len(gts))), []
    for i in sorted(range(len(found)), key=lambda i: -scores[i]):
        best = max(free, key=lambda j: share(found[i], gts[j]), default=None)
        if best is not None and share(found[i], gts[best]) > 0.5:
            free.remove(best)
            expected.append(True)
        elif not any(share(found[i], region, of_a=True) > 0.5 for region in regions):
            expected.append(False)
    right, count = judged([Picture(*map(torch.from_numpy, (gts, regions, found, scores)))])
    assert (right.tolist(), count) == (expected, 9)
    assert len(set(expected)) == 2 and len(expected) < len(found)
