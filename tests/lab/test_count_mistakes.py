"""Every gt and every detection is counted once, under the mistake that was made."""

import copy

import pytest
import torch
from detect.test_evaluate import detection, noisy

from otalab.detect.evaluate import coco_metrics
from otalab.lab.mistakes import (
    DetectionCounts,
    GtCounts,
    Mistakes,
    count_mistakes,
    judge,
    mistakes_by_image,
    worst_images,
)

BOX = [10.0, 10, 50, 50]  # 40 px a side
SHIFTED = [10.0, 10, 50, 90]  # IoU 0.5 with BOX
NEAR = [30.0, 10, 70, 50]  # IoU 1/3
FAR = [46.0, 10, 86, 50]  # IoU 4/76, less than 0.1
CAT, DOG = 3, 5
FINE = DetectionCounts()


def image(found, gts, crowds=()) -> Mistakes:
    """The mistakes of detections (box, label, score), given gts and crowds (box, label)."""

    def tensors(rows):
        boxes = torch.tensor([row[0] for row in rows], dtype=torch.float64).reshape(-1, 4)
        return boxes, torch.tensor([row[1] for row in rows], dtype=torch.int64)

    scores = torch.tensor([row[2] for row in found], dtype=torch.float64)
    return judge(*tensors(found), scores, *tensors(gts), *tensors(crowds))


@pytest.mark.parametrize(
    ("found", "gts", "detections"),
    [
        ([(BOX, CAT, 0.9)], GtCounts(found=1), DetectionCounts(found=1)),
        ([(SHIFTED, CAT, 0.9)], GtCounts(found=1), DetectionCounts(found=1)),
        ([(BOX, DOG, 0.9)], GtCounts(confused=1), DetectionCounts(confused=1)),
        ([(NEAR, CAT, 0.9)], GtCounts(misplaced=1), DetectionCounts(misplaced=1)),
        ([(NEAR, DOG, 0.9)], GtCounts(missed=1), DetectionCounts(background=1)),
        ([(FAR, CAT, 0.9)], GtCounts(missed=1), DetectionCounts(background=1)),
        ([], GtCounts(missed=1), DetectionCounts()),
        ([(BOX, CAT, 0.9), (SHIFTED, CAT, 0.8)], GtCounts(found=1), DetectionCounts(found=1, duplicate=1)),
        ([(BOX, DOG, 0.9), (NEAR, CAT, 0.8)], GtCounts(confused=1), DetectionCounts(confused=1, misplaced=1)),
        ([(BOX, DOG, 0.9), (BOX, CAT, 0.8)], GtCounts(found=1), DetectionCounts(found=1, confused=1)),
    ],
)
def test_each_mistake_has_its_name(found, gts, detections):
    assert image(found, [(BOX, CAT)]) == Mistakes(gts, detections)


def test_the_better_score_takes_the_gt_and_the_other_the_next():
    two = [(BOX, CAT), (SHIFTED, CAT)]
    assert image([(BOX, CAT, 0.9), (BOX, CAT, 0.8)], two).gts == GtCounts(found=2)
    assert image([(BOX, CAT, 0.9), (SHIFTED, CAT, 0.8)], two).gts == GtCounts(found=2)


def test_a_detection_that_found_its_gt_confuses_no_other():
    said = image([(BOX, CAT, 0.9)], [(BOX, CAT), (BOX, DOG)])
    assert said == Mistakes(GtCounts(found=1, missed=1), DetectionCounts(found=1))


def test_a_crowd_of_the_class_takes_detections_out_of_account():
    inside = ([12.0, 12, 30, 30], CAT, 0.9)
    assert image([inside], [], [(BOX, CAT)]).detections == DetectionCounts(ignored=1)
    assert image([inside], [], [(BOX, DOG)]).detections == DetectionCounts(background=1)
    assert image([(NEAR, CAT, 0.9)], [], [(BOX, CAT)]).detections == DetectionCounts(ignored=1)  # just half of it
    assert image([([31.0, 10, 71, 50], CAT, 0.9)], [], [(BOX, CAT)]).detections == DetectionCounts(background=1)
    assert image([(BOX, CAT, 0.9)], [(BOX, CAT)], [(BOX, CAT)]).detections == DetectionCounts(found=1)


def test_a_crowd_is_no_gt_and_hides_no_other():
    said = image([(NEAR, CAT, 0.9)], [(BOX, CAT)], [(NEAR, CAT)])
    assert said == Mistakes(GtCounts(missed=1), DetectionCounts(ignored=1))
    assert image([], [], [(BOX, CAT)]) == Mistakes(GtCounts(), DetectionCounts())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.1])
def test_every_gt_and_every_detection_counts_once(seed, threshold):
    truth, results = noisy(seed)
    said = count_mistakes(truth, results, threshold)
    assert said.gts.total == sum(not row["iscrowd"] for row in truth["annotations"])
    assert said.detections.total == sum(row["score"] >= threshold for row in results)
    assert said.gts.found == said.detections.found


@pytest.mark.parametrize("seed", range(4))
def test_gts_found_are_those_that_coco_counts(seed):
    truth, results = noisy(seed, crowds=False)
    one = copy.deepcopy(truth)
    one["categories"] = [{"id": 3, "name": "cat"}]
    one["annotations"] = [row for row in truth["annotations"] if row["category_id"] == 3]
    kept = [row for row in results if row["category_id"] == 3]
    found = count_mistakes(one, kept, 0.0).gts

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = one
    coco.createIndex()
    run = COCOeval(coco, coco.loadRes(kept), "bbox")
    run.evaluate()
    run.accumulate()
    assert found.found / found.total == pytest.approx(run.eval["recall"][0, 0, 0, -1], abs=1e-12)
    assert coco_metrics(one, kept)["AP50"] <= found.found / found.total + 0.01


def test_a_threshold_counts_detections_from_it_on():
    truth = {"images": [{"id": 1}], "categories": [], "annotations": []}
    results = [detection(1, CAT, [0, 0, 5, 5], score) for score in (0.29, 0.3, 0.31)]
    assert count_mistakes(truth, results, 0.3).detections == DetectionCounts(background=2)


def test_the_worst_images_have_the_most_gts_not_found_and_wrong_detections():
    good, one = Mistakes(GtCounts(found=9), DetectionCounts(found=9, ignored=5)), Mistakes(GtCounts(missed=1), FINE)
    two = Mistakes(GtCounts(found=9, missed=1), DetectionCounts(found=9, duplicate=1))
    assert worst_images({7: good, 8: one, 9: two, 4: one}, 5) == [9, 8, 4]
    assert worst_images({7: good, 8: one, 9: two}, 1) == [9]


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_mistakes_of_the_images_add_up_to_those_of_the_set(threshold):
    truth, results = noisy(0)
    each = mistakes_by_image(truth, results, threshold)
    assert list(each) == [image["id"] for image in truth["images"]]
    assert sum(m.gts.missed for m in each.values()) == count_mistakes(truth, results, threshold).gts.missed
