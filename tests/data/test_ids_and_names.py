"""Ids, names and flags as JSON and other people's converters have them."""

import logging

import numpy as np
import pytest
import torch
from coco_files import box, fault, image, load, write
from PIL import Image

from otalab.data import CocoDataset
from otalab.detect.evaluate import coco_metrics

BACKENDS = ["pycocotools", "faster-coco-eval"]
IDS = {
    "from zero": [0, 1, 2],
    "negative": [-5, 0, 3],
    "the largest that float64 counts": [2**53, -(2**53), 2**53 - 1],
    "the largest of 64 bits": [2**63 - 1, -(2**63), 2**53 + 1],
    "beyond 64 bits": [2**70, 2**70 + 1, 0],
    "texts": ["b", "", "img/ä\n1"],
    "texts and numbers": ["1", 1, 2**64],
    "floats": [0.0, 7.0, 1e30],
}


def written(tmp_path, images, categories, annotations):
    """Three images with a box of each category; a box's place tells its image and category."""
    files = [image(0, id=i, file_name=f"{n}.png") for n, i in enumerate(images)]
    rows = [
        box(0, image_id=i, category=c, bbox=(2 + 9 * m, 3 + n, 8, 9), area=72.0)
        for n, i in enumerate(images)
        for m, c in enumerate(categories)
    ]
    for row, i in zip(rows, annotations, strict=True):
        row["id"] = i
    if annotations[0] is None:
        for row in rows:
            del row["id"]
    names = [{"id": c, "name": f"class {m}"} for m, c in enumerate(categories)]
    root = write(tmp_path, images=files, annotations=rows, categories=names, draw=False)
    for row in files:
        Image.new("RGB", (40, 30)).save(root / "train" / "images" / row["file_name"])
    return root


def perfect(data: CocoDataset) -> list[dict]:
    """Every gt as a detection, with the ids that a detector's results have."""
    return [
        {
            "image_id": int(target["image_id"]),
            "category_id": data.category_ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 0.9,
        }
        for _, target in data
        for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
    ]


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_perfect_detections_have_ap_1_whatever_the_ids(tmp_path, ids):
    data = load(written(tmp_path, ids, ids, [*ids, *range(10, 16)]))
    truth, found = data.ground_truth(), perfect(data)
    assert len(found) == 9
    for backend in BACKENDS:
        assert coco_metrics(truth, found, backend)["AP"] == pytest.approx(1)
        wrong = [{**row, "category_id": data.category_ids[0]} for row in found]
        assert coco_metrics(truth, wrong, backend)["AP"] < 0.5  # categories are told apart
        first = [{**row, "image_id": data.image_ids[0]} for row in found]
        assert coco_metrics(truth, first, backend)["AP"] < 0.5  # and images
    names = {i: name for i, name in zip(data.category_ids, data.class_names, strict=True)}
    assert all(names[r["category_id"]] == f"class {r['bbox'][0] // 9:.0f}" for r in truth["annotations"])
    files = {row["id"]: row["file_name"] for row in truth["images"]}
    assert all(files[r["image_id"]] == f"{r['bbox'][1] - 3:.0f}.png" for r in truth["annotations"])


def test_annotations_need_no_id(tmp_path):
    data = load(written(tmp_path, [1, 2, 3], [1, 2, 3], [None] * 9))
    assert coco_metrics(data.ground_truth(), perfect(data))["AP"] == pytest.approx(1)


def test_ids_that_fit_are_the_files_own_and_others_do_not_change_with_the_choice(tmp_path):
    own = load(written(tmp_path / "a", [7, 0, -3], [9, 4, 0], range(9)))
    assert own.image_ids == [-3, 0, 7] and own.category_ids == [0, 4, 9]
    root = written(tmp_path / "b", ["z", "x", "y"], [2**70, 5, "a"], range(9))
    every, some = load(root), load(root, categories=["class 0"], max_images=2)
    assert every.image_ids == every.category_ids == [1, 2, 3]
    assert some.category_ids == [every.category_ids[every.class_names.index("class 0")]]
    assert {some.image_ids[i]: some._files[i] for i in (0, 1)}.items() <= {1: "1.png", 2: "2.png", 3: "0.png"}.items()
    assert every[0][1]["image_id"].dtype == torch.int64


def test_the_evaluation_finds_an_annotation_with_id_0_in_any_ground_truth(tmp_path):
    data = load(written(tmp_path, [1, 2, 3], [1, 2, 3], range(9)))
    truth, found = data.ground_truth(), perfect(data)
    for row in truth["annotations"]:
        row["id"] -= 1
    for backend in BACKENDS:
        assert coco_metrics(truth, found, backend)["AP"] == pytest.approx(1)
    assert [row["id"] for row in truth["annotations"]] == [*range(9)]  # not written into


# Names


def test_categories_of_one_name_are_told_apart_by_their_ids(tmp_path, caplog):
    names = [{"id": 1, "name": "helmet"}, {"id": 0, "name": "helmet"}, {"id": 5, "name": "head"}]
    root = write(tmp_path, categories=names, annotations=[box(1, category=0), box(2, image_id=2, category=1)])
    with caplog.at_level(logging.WARNING, logger="otalab"):
        data = load(root)
    assert data.class_names == ["helmet (0)", "helmet (1)", "head"]
    assert "categories 0 and 1 are all named 'helmet'" in caplog.text
    rows = coco_metrics(data.ground_truth(), perfect(data)[:1])
    assert (rows["AP/helmet (0)"], rows["AP/helmet (1)"]) == (1.0, 0.0)
    assert load(root, categories=["helmet (1)"]).category_ids == [1]
    assert fault(root, categories=["helmet"]).endswith(
        "has several categories 'helmet'; did you mean helmet (0), helmet (1)?"
    )
    clash = write(tmp_path / "b", categories=[*names, {"id": 9, "name": "helmet (1)"}], annotations=[])
    assert "has several categories 'helmet (1)': rename them" in fault(clash)


def test_a_class_named_twice_is_one_class(tmp_path):
    assert load(write(tmp_path), categories=["dog", "cat", "dog"]).class_names == ["dog", "cat"]


@pytest.mark.parametrize("name", ["traffic light", "猫 🐈‍⬛", "Straße/ÖPNV, 'Bus'", "a" * 500])
def test_names_hold_any_text(tmp_path, name):
    data = load(write(tmp_path, categories=[{"id": 3, "name": name}]), categories=[name])
    assert data.class_names == [name]
    assert len(data.account()[2]) < 80


def test_blanks_around_a_name_are_no_part_of_it(tmp_path):
    rows = [{"id": 3, "name": " dog\n"}, {"id": 4, "name": "cat\r\n"}]  # as lines of a classes.txt have them
    assert load(write(tmp_path, categories=rows), categories=["dog"]).class_names == ["dog"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "category 3 has an empty name"),
        (" \n", "category 3 has an empty name"),
        ("two\nlines", r"category 3 has name 'two\nlines', which holds a control character"),
        ("\x1b[2J", "which holds a control character"),
        ("\ud83d", "half a character"),
        (None, "category 3 has name None, not a text"),
    ],
)
def test_names_that_are_no_text_are_refused(tmp_path, name, message):
    assert message in fault(write(tmp_path, categories=[{"id": 3, "name": name}]))


# Flags and scales


@pytest.mark.parametrize("flag", [{"ignore": 1}, {"ignore": True}, {"iscrowd": True}, {"iscrowd": 1.0, "ignore": 0}])
def test_what_is_to_be_ignored_is_neither_gt_nor_mistake(tmp_path, flag):
    rows = [box(1), box(2, bbox=(20, 5, 12, 12), **flag), box(3, bbox=(33, 5, 6, 6), ignore=False, iscrowd=0.0)]
    data = load(write(tmp_path, annotations=rows))
    _, target = data[0]
    assert target["boxes"].tolist() == [[5, 5, 15, 15], [33, 5, 39, 11]]
    assert target["ignore_boxes"].tolist() == [[20, 5, 32, 17]]
    found = perfect(data)
    inside = {**found[0], "bbox": [21.0, 6.0, 10.0, 10.0], "score": 0.95}  # in the region: neither right nor wrong
    for backend in BACKENDS:
        assert coco_metrics(data.ground_truth(), [*found, inside], backend)["AP"] == pytest.approx(1)
        outside = {**inside, "bbox": [1.0, 18.0, 10.0, 10.0]}
        assert coco_metrics(data.ground_truth(), [*found, outside], backend)["AP"] < 0.9


def test_boxes_that_look_normalised_are_told(tmp_path, caplog):
    rows = [box(1, bbox=(0.2, 0.2, 0.4, 0.6), area=0.24), box(2, image_id=2, bbox=(0, 0, 1, 1), area=1)]
    load(write(tmp_path / "a", annotations=rows))
    assert (
        "bbox values look normalised (0..1); COCO wants pixels: no side of 2 boxes is longer than 1 px" in caplog.text
    )
    caplog.clear()
    load(write(tmp_path / "b", annotations=[*rows, box(3)]))
    assert caplog.text == ""


@pytest.mark.parametrize("area", [0, -3, 0.24, 102.1])
def test_an_area_that_contradicts_its_box_is_replaced_with_a_warning(tmp_path, caplog, area):
    rows = [box(1, area=area), box(2, area=30.5), box(3, area=100.9), box(4, bbox=(0, 0, 1, 1), area=0.2)]
    data = load(write(tmp_path, annotations=rows))
    assert [row["area"] for row in data.ground_truth()["annotations"]] == [100, 30.5, 100.9, 0.2]
    assert (
        f"1 of 4 areas contradict their boxes, and width x height is taken for them; annotation 1 has area {area}"
        in (caplog.text)
    )


def test_an_area_that_is_not_given_is_that_of_the_box(tmp_path, caplog):
    row = box(1, bbox=(1, 2, 3, 4))
    del row["area"]
    truth = load(write(tmp_path, annotations=[row])).ground_truth()
    assert np.isclose(truth["annotations"][0]["area"], 12) and caplog.text == ""
