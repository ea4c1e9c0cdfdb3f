import json
import logging
import pickle
from pathlib import Path

import pytest
import torch
from coco_files import CATEGORIES, box, image, load, write
from torch.utils.data import DataLoader

from otalab.data import CocoDataset, ShapesConfig, collate, make_shapes, train_transforms

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "coco_mini"


# What an item is


def test_an_item_is_an_image_in_0_to_1_and_a_target_in_pixels(tmp_path):
    crowd = box(3, category=7, bbox=(0, 0, 20, 30), iscrowd=1)
    data = load(write(tmp_path, annotations=[box(1, category=7, bbox=(5, 6, 10, 20.5)), box(2, category=3), crowd]))
    picture, target = data[0]
    assert picture.dtype == torch.float32 and picture.shape == (3, 30, 40)
    assert torch.equal(picture, torch.full((3, 30, 40), 10 / 255))
    assert target["boxes"].tolist() == [[5.0, 6.0, 15.0, 26.5], [5.0, 5.0, 15.0, 15.0]]
    assert target["labels"].tolist() == [1, 0]  # dog is category 3, cat is 7: labels follow the ids
    assert target["ignore_boxes"].tolist() == [[0.0, 0.0, 20.0, 30.0]]
    assert target["image_id"].item() == 1 and target["image_id"].dtype == torch.int64
    assert target["size"].tolist() == [30, 40]
    assert target["boxes"].dtype == target["ignore_boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64
    assert all(type(value) is torch.Tensor for value in [picture, *target.values()])


def test_labels_map_to_category_ids_and_names(tmp_path):
    data = load(write(tmp_path))
    assert data.class_names == ["dog", "cat", "zebra"]
    assert data.category_ids == [3, 7, 90]
    one = load(tmp_path, categories=["zebra", "cat"])
    assert (one.class_names, one.category_ids) == (["cat", "zebra"], [7, 90])


def test_an_image_without_boxes_has_empty_tensors_of_the_right_shape(tmp_path):
    _, target = load(write(tmp_path))[1]
    assert target["boxes"].shape == target["ignore_boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,) and target["labels"].dtype == torch.int64


def test_an_index_counts_from_the_end_and_iteration_ends(tmp_path):
    data = load(write(tmp_path, annotations=[box(1, image_id=2)]))
    assert len(list(data)) == len(data) == 2
    assert data[-1][1]["boxes"].tolist() == data[1][1]["boxes"].tolist() == [[5.0, 5.0, 15.0, 15.0]]


def test_changing_an_item_does_not_change_the_data_set(tmp_path):
    data = load(write(tmp_path), cache=True)
    picture, target = data[0]
    for tensor in (picture, *target.values()):
        tensor.zero_()
    picture, target = data[0]
    assert picture.max() > 0 and target["boxes"].max() > 0 and target["size"].tolist() == [30, 40]


def test_a_loader_batches_lists_and_the_data_set_can_be_sent_to_processes(tmp_path):
    data = pickle.loads(pickle.dumps(load(write(tmp_path), transforms=train_transforms(None, "strong"))))
    images, targets = next(iter(DataLoader(data, batch_size=2, collate_fn=collate)))
    assert [i.shape for i in images] == [(3, 30, 40)] * 2
    assert [t["image_id"].item() for t in targets] == [1, 2]


def test_cached_items_equal_those_read_from_disk(tmp_path):
    folder = make_shapes(tmp_path / "s", 3, 1, ShapesConfig(image_size=64), progress=False)
    read, cached = load(folder), load(folder, cache=True)
    for (a, s), (b, t) in zip(read, cached, strict=True):
        assert torch.equal(a, b) and all(torch.equal(s[key], t[key]) for key in s)
    for path in (folder / "train" / "images").iterdir():
        path.unlink()
    assert len(list(cached)) == 3


# Which images and rows are chosen


def test_a_choice_of_images_is_fixed_by_its_seed_and_grows_by_adding(tmp_path):
    root = write(tmp_path, images=[image(i) for i in range(1, 13)])
    four, four_again, seven = (load(root, max_images=n, seed=5).image_ids for n in (4, 4, 7))
    assert four == four_again == sorted(four) and len(set(four)) == 4
    assert set(four) < set(seven)
    assert load(root, max_images=4, seed=6).image_ids != four
    assert load(root, max_images=99).image_ids == list(range(1, 13))


def test_annotations_of_other_categories_vanish_with_the_images_they_leave_empty(tmp_path):
    crowd = box(3, image_id=2, category=3, iscrowd=1)
    root = write(tmp_path, annotations=[box(1, category=7), box(2, category=3), crowd, box(4, image_id=2, category=90)])
    data = load(root, categories=["dog"])
    assert [t["labels"].tolist() for _, t in data] == [[0], []]
    assert [len(t["ignore_boxes"]) for _, t in data] == [0, 1]
    assert load(root, categories=["dog"], background=0).image_ids == [1]
    kept = [(row["image_id"], row["iscrowd"]) for row in data.ground_truth()["annotations"]]
    assert kept == [(1, 0), (2, 1)]


def test_rows_find_their_image_in_whatever_order_the_file_lists_them(tmp_path):
    images = [image(3), image(1), image(2)]
    rows = [box(i, image_id=1 + (2 * i) % 3, bbox=(i, 0, 5, 5)) for i in range(6)]
    for picture, target in load(write(tmp_path, images=images, annotations=rows)):
        number = target["image_id"].item()
        assert picture[0, 0, 0].item() == pytest.approx(10 * number / 255)
        assert [x1 for x1, *_ in target["boxes"].tolist()] == [i for i in range(6) if 1 + (2 * i) % 3 == number]


def test_an_image_whose_only_box_has_no_area_counts_as_empty(tmp_path):
    rows = [box(1), box(2, image_id=2, bbox=(5, 5, 0, 5))]
    assert load(write(tmp_path, annotations=rows), background=0).image_ids == [1]


def test_ground_truth_is_the_chosen_part_as_annotated(tmp_path):
    rows = [box(3, image_id=2, bbox=(30, 20, 15, 5), area=75.0), box(1, category=7, area=3.5)]
    rows += [box(2, iscrowd=1, category=90)]
    truth = load(write(tmp_path, annotations=rows)).ground_truth()
    assert truth["images"] == [image(1), image(2)]
    assert truth["categories"] == sorted(CATEGORIES, key=lambda row: row["id"])
    assert sorted(truth["annotations"], key=lambda row: row["id"]) == sorted(rows, key=lambda row: row["id"])
    json.dumps(truth)


def test_perfect_detections_of_the_ground_truth_score_ap_1(tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = load(make_shapes(tmp_path / "s", 6, 1, progress=False), max_images=4)
    truth = COCO()
    truth.dataset = data.ground_truth()
    truth.createIndex()
    found = [
        {
            "image_id": target["image_id"].item(),
            "category_id": data.category_ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 1.0,
        }
        for _, target in data
        for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
    ]
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


# Boxes that do not fit


def test_empty_boxes_are_dropped_and_outlying_ones_clipped_with_one_warning(tmp_path, caplog):
    rows = [
        box(1, bbox=(5, 5, 0, 10), area=0),  # no width
        box(2, bbox=(50, 5, 10, 10)),  # right of the image
        box(3, bbox=(-20, -20, 20, 20)),  # touches its corner from outside
        box(4, bbox=(35, 25, 10, 10)),  # half outside
        box(5, bbox=(0, 0, 40.01, 30)),  # rounding: clipped without a word
        box(6, iscrowd=1, bbox=(-5, 0, 10, 10)),
    ]
    with caplog.at_level(logging.WARNING, logger="otalab"):
        data = load(write(tmp_path, annotations=rows))
    assert (data.dropped, data.clipped) == (3, 2)
    assert len(caplog.records) == 1
    assert "1 boxes of zero area and 2 outside their image dropped, 2 clipped" in caplog.records[0].getMessage()
    _, target = data[0]
    assert target["boxes"].tolist() == [[35.0, 25.0, 40.0, 30.0], [0.0, 0.0, 40.0, 30.0]]
    assert target["ignore_boxes"].tolist() == [[0.0, 0.0, 5.0, 10.0]]
    assert len(data.ground_truth()["annotations"]) == 6  # the evaluation sees what was annotated
    assert data.summary() == "2 images, 2 boxes, 3 classes, 1 crowd regions, 1 images without a box"


def test_clean_boxes_raise_no_warning(tmp_path, caplog):
    data = load(write(tmp_path))
    assert (data.dropped, data.clipped, caplog.records) == (0, 0, [])


# Real photographs, where they are at hand


def test_real_photos_load_with_their_official_boxes():
    if not PHOTOS.is_dir():
        return  # a clone has no photos; the synthetic tests above cover the same code
    for split, images, boxes, crowds in (("train", 337, 2810, 28), ("val", 128, 898, 8)):
        data = CocoDataset.from_folder(PHOTOS, split)
        assert len(data.class_names) == 80 and data.category_ids[-1] == 90
        assert (len(data), data.dropped, data.clipped) == (images, 0, 0)
        targets = [target for picture, target in data if picture.shape[1:] == tuple(target["size"])]
        assert len(targets) == images
        assert sum(len(t["boxes"]) for t in targets) == boxes
        assert sum(len(t["ignore_boxes"]) for t in targets) == crowds
        assert all((t["boxes"][:, 2:] > t["boxes"][:, :2]).all() for t in targets)
        assert all((t["boxes"][:, 2:] <= t["size"].flip(0)).all() for t in targets)
        assert {label for t in targets for label in t["labels"].tolist()} <= set(range(80))
