"""Gts by their crowding: each in its bin, and the AP of a bin as COCO measures that of an area range."""

import copy
import math

import pytest
import torch
from detect.test_evaluate import BACKENDS, detection, noisy

from otalab.detect.evaluate import coco_metrics, run_evaluator
from otalab.lab.gt_bins import CROWDING, GtBin, crowding, crowding_bins

CAT, DOG = 3, 5
ALONE = [200, 200, 40, 40]  # xywh
BIG, INNER = [0, 0, 100, 100], [0, 0, 100, 60]  # IoU 0.6 with each other
AWAY = [300, 300, 20, 20]


def bins_of(gts, found, backend=None) -> dict[str, GtBin]:
    """The bins of one image: gts (box, label, crowd), detections (box, label, score)."""
    rows = [
        {"id": i, "image_id": 1, "bbox": box, "category_id": label, "area": box[2] * box[3], "iscrowd": crowd}
        for i, (box, label, crowd) in enumerate(gts, 1)
    ]
    categories = [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}]
    truth = {"info": {}, "categories": categories, "annotations": rows}
    truth["images"] = [{"id": 1, "width": 400, "height": 400, "file_name": "1.png"}]
    return {each.name: each for each in crowding_bins(truth, [detection(1, *row_of(row)) for row in found], backend)}


def row_of(row):
    box, label, score = row
    return label, box, score


PAIR = [(BIG, CAT, 0), (INNER, CAT, 0), (ALONE, CAT, 0)]


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([], []),
        ([[0, 0, 10, 10]], [0]),
        ([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 0]),
        ([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 1]], [0.5, 0.5, 0.2]),
        ([[0, 0, 10, 10], [0, 0, 10, 10]], [1, 1]),
        ([[3, 3, 3, 3], [3, 3, 3, 3]], [0, 0]),  # no area, no overlap
    ],
)
def test_crowding_is_the_largest_iou_with_another_box(boxes, expected):
    found = crowding(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4))
    assert found.tolist() == pytest.approx(expected)


def test_a_gt_lies_in_the_bin_of_its_crowding_whatever_the_classes():
    gts = [([0, 0, 10, 10], CAT, 0), ([0, 0, 10, 2], DOG, 0)]  # IoU 0.2
    assert {name: each.gts for name, each in bins_of(gts, []).items()} == dict(zip(CROWDING, (0, 0, 2, 0), strict=True))
    gts = [([0, 0, 10, 10], CAT, 0), ([0, 0, 10, 5], DOG, 0), ([9, 9, 10, 10], DOG, 0)]
    assert [each.gts for each in bins_of(gts, []).values()] == [0, 1, 0, 2]


def test_a_region_to_ignore_is_no_gt_and_crowds_none():
    found = bins_of([(ALONE, CAT, 0), (ALONE, CAT, 1)], [])
    assert [each.gts for each in found.values()] == [1, 0, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_detection_of_a_gt_of_another_bin_is_neither_right_nor_wrong(backend):
    found = bins_of(PAIR, [(BIG, CAT, 0.9), (ALONE, CAT, 0.8)], backend)
    assert (found["0"].gts, found["0"].recall, found["0"].AP) == (1, 1, pytest.approx(1))
    half = pytest.approx(51 / 101)  # right up to a recall of 0.5: at 51 of COCO's 101 recalls
    close = found["0.5 or more"]
    assert (close.gts, close.recall, close.AP, close.AP50) == (2, 0.5, half, half)
    assert math.isnan(found["0 to 0.2"].AP) and math.isnan(found["0 to 0.2"].recall)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_detection_of_no_gt_is_wrong_in_every_bin(backend):
    found = bins_of(PAIR, [(AWAY, CAT, 0.95), (BIG, CAT, 0.9), (ALONE, CAT, 0.8)], backend)
    assert pytest.approx(1 / 2) == found["0"].AP
    assert pytest.approx(51 / 101 / 2) == found["0.5 or more"].AP


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gt_of_another_bin_is_no_region_to_ignore(backend):
    """`iscrowd` would pardon a small detection inside BIG, and a second one of it."""
    inside = bins_of(PAIR, [([10, 70, 20, 20], CAT, 0.9), (ALONE, CAT, 0.8)], backend)
    assert pytest.approx(1 / 2) == inside["0"].AP
    again = bins_of([*PAIR], [(BIG, CAT, 0.9), (BIG, CAT, 0.88), (BIG, CAT, 0.85), (ALONE, CAT, 0.8)], backend)
    assert pytest.approx(1 / 2) == again["0"].AP50  # the first takes BIG, the second INNER, the third nothing


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gt_of_the_bin_is_preferred_to_one_outside_it(backend):
    """Of one box that overlaps both, COCO's area ranges take the gt that is looked at."""
    gts = [([0, 0, 100, 100], CAT, 0), ([0, 0, 100, 55], CAT, 0), ([0, 90, 100, 20], CAT, 0)]
    found = bins_of(gts, [([0, 0, 100, 100], CAT, 0.9)], backend)
    assert [each.gts for each in found.values()] == [0, 1, 0, 2]
    assert pytest.approx(51 / 101) == found["0.5 or more"].AP and found["0 to 0.2"].AP == 0


@pytest.mark.parametrize("seed", range(3))
def test_both_backends_agree_on_noise_and_bins_hold_every_gt(seed):
    truth, results = noisy(seed)
    before = copy.deepcopy((truth, results))
    first, second = ([vars(b) for b in crowding_bins(truth, results, backend)] for backend in BACKENDS)
    for ours, theirs in zip(first, second, strict=True):
        assert ours == pytest.approx(theirs, nan_ok=True, abs=1e-12)
    assert sum(each["gts"] for each in first) == sum(not row["iscrowd"] for row in truth["annotations"])
    assert (truth, results) == before


def test_recall_of_one_class_without_overlaps_is_cocos():
    truth, results = noisy(1, images=40, crowds=False)
    seen = set()  # one gt an image, so that all lie in the bin 0
    truth["annotations"] = [
        row
        for row in truth["annotations"]
        if row["category_id"] == 3 and not (row["image_id"] in seen or seen.add(row["image_id"]))
    ]
    truth["categories"] = truth["categories"][:1]
    results = [row for row in results if row["category_id"] == 3]
    alone = crowding_bins(truth, results)[0]
    assert alone.gts == len(truth["annotations"]) > 10
    assert alone.recall == pytest.approx(run_evaluator(truth, results, None).eval["recall"][0, 0, 0, -1])
    assert pytest.approx(coco_metrics(truth, results)["AP"]) == alone.AP
