import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from otalab.data import CocoDataset, ShapesConfig, collate, find_split, make_shapes, train_transforms
from otalab.errors import InputError

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "coco_mini"
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 90, "name": "zebra"}]


def image(i: int, **changes) -> dict:
    return {"id": i, "file_name": f"{i}.png", "width": 40, "height": 30, **changes}


def box(i: int, image_id: int = 1, category: int = 3, bbox=(5, 5, 10, 10), **changes) -> dict:
    row = {"id": i, "image_id": image_id, "category_id": category, "bbox": list(bbox), "area": 100.0, "iscrowd": 0}
    return {**row, **changes}


def write(root: Path, images=None, annotations=None, categories=None, draw: bool = True) -> Path:
    """A one-split data set `root/train`, its images plain grey of value 10 times their id."""
    images = [image(1), image(2)] if images is None else images
    content = {
        "images": images,
        "annotations": [box(1)] if annotations is None else annotations,
        "categories": CATEGORIES if categories is None else categories,
    }
    (root / "train" / "images").mkdir(parents=True)
    (root / "train" / "instances.json").write_text(json.dumps(content))
    for row in images if draw else ():
        grey = np.full((row["height"], row["width"], 3), 10 * row["id"], dtype=np.uint8)
        Image.fromarray(grey).save(root / "train" / "images" / row["file_name"])
    return root


def load(root: Path, **options) -> CocoDataset:
    return CocoDataset.from_folder(root, "train", **options)


def fault(root: Path, **options) -> str:
    """The one-line message of the InputError that loading raises."""
    with pytest.raises(InputError) as caught:
        load(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
    assert load(root, categories=["dog"], keep_empty=False).image_ids == [1]
    assert [row["id"] for row in data.ground_truth()["annotations"]] == [2, 3]


def test_ground_truth_is_the_chosen_part_as_annotated(tmp_path):
    rows = [box(5, image_id=2, bbox=(30, 20, 15, 5)), box(2, category=7, area=3.5), box(9, iscrowd=1, category=90)]
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


# Where the files lie


def test_both_layouts_and_the_split_itself_are_found(tmp_path):
    root = write(tmp_path / "mini")
    expected = (root / "train" / "instances.json", root / "train" / "images")
    assert find_split(root, "train") == find_split(str(root / "train"), "train") == expected
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "val2017").mkdir()
    annotations = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    annotations.write_text("{}")
    assert find_split(tmp_path / "coco", "val") == (annotations, tmp_path / "coco" / "val2017")


def test_what_is_missing_is_named(tmp_path):
    root = write(tmp_path / "mini")
    with pytest.raises(InputError, match=r"no folder .*/nowhere"):
        find_split(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match=r"no val split .*val/instances.json and .*annotations/instances_val2017.json"):
        find_split(root, "val")
    with pytest.raises(InputError, match="no val split"):
        find_split(root / "train", "val")  # the train split is not offered as val
    (root / "train" / "images").rename(root / "train" / "pictures")
    with pytest.raises(InputError, match=r"instances.json has no image folder .*train/images"):
        find_split(root, "train")


def test_images_may_lie_in_folders_of_their_own(tmp_path):
    row = image(1, file_name="a/1.png")
    root = write(tmp_path, images=[row], draw=False)
    (root / "train" / "images" / "a").mkdir()
    Image.new("RGB", (40, 30)).save(root / "train" / "images" / "a" / "1.png")
    assert len(load(root)) == 1
    assert "cannot list image folder" in fault(write(tmp_path / "b", images=[row], draw=False))


# Bad input, each with one line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [,]}', "instances.json is not JSON: Expecting value at line 1, column 13"),
        ('{\n "images": [', "at line 2, column"),
        ("\udcff", "instances.json is not JSON"),
        ("[]", "holds a list, not a COCO dictionary"),
        ('{"images": [], "annotations": []}', "has no list 'categories'"),
        ('{"images": [{"id": 1, "width": 4, "height": 4}]}', "images[0] has no 'file_name'"),
        ('{"images": [3]}', "images[0] is not a dictionary"),
    ],
)
def test_a_broken_annotation_file_says_where(tmp_path, text, message):
    root = write(tmp_path)
    (root / "train" / "instances.json").write_bytes(text.encode(errors="surrogateescape"))
    assert message in fault(root)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([box(1, image_id=8)], "annotation 1 names image 8, which is not listed"),
        ([box(1), box(2, category=4)], "annotation 2 names category 4, which is not listed"),
        ([box(4, bbox=(1, 2, 3))], "annotation 4 has bbox [1, 2, 3], not [x, y, width, height]"),
        ([box(4, bbox=(1, 2, float("nan"), 4))], "annotation 4 has bbox [1, 2, nan, 4]; its values must be finite"),
        ([box(4, bbox=(1, 2, "3", 4))], "annotation 4 has bbox"),
        ([box(4, bbox=(1, 2, -3, 4))], "its sides not negative"),
        ([{**box(4), "bbox": 5}], "annotations[0] has bbox 5, not of type list"),
        ([box(4, area=None)], "annotation 4 has area None"),
        ([box(4, iscrowd=2)], "iscrowd 2"),
        ([{key: value for key, value in box(4).items() if key != "category_id"}], "has no 'category_id'"),
        ([box(4), box(4)], "annotations has id 4 twice"),
        ([box(4, image_id="1")], "annotations[0] has image_id '1', not of type int"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path, rows, message):
    found = fault(write(tmp_path, annotations=rows))
    assert message in found and "instances.json" in found


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (image(1, width=0), "image 1 is 0 x 30 px"),
        (image(1, file_name="../1.png"), "image 1 lies outside the image folder: '../1.png'"),
        (image(1, file_name="/etc/1.png"), "image 1 lies outside the image folder"),
        (image(1, height=None), "images[0] has height None, not of type int"),
    ],
)
def test_a_bad_image_row_is_named(tmp_path, row, message):
    assert message in fault(write(tmp_path, images=[row], draw=False))


def test_missing_images_are_counted_and_the_first_is_named_before_any_is_read(tmp_path):
    root = write(tmp_path, images=[image(i) for i in range(1, 6)])
    for i in (3, 4):
        (root / "train" / "images" / f"{i}.png").unlink()
    assert fault(root).startswith("2 of 5 images are missing in ")
    assert fault(root).endswith("the first is 3.png")


def test_a_truncated_or_wrong_image_file_is_named_when_it_is_read(tmp_path):
    root = write(tmp_path, images=[image(1, file_name="1.jpg"), image(2), image(3)])
    folder = root / "train" / "images"
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "1.jpg")
    (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes()[:900])
    (folder / "2.png").write_text("not a picture")
    Image.new("RGB", (20, 30)).save(folder / "3.png")
    data = load(root)
    messages = (
        r"cannot read image .*1\.jpg: .*truncated",
        r"cannot read image .*2\.png",
        r"3\.png is 20 x 30 px, .* 40 x 30",
    )
    for i, message in enumerate(messages):
        with pytest.raises(InputError, match=message):
            data[i]
    with pytest.raises(InputError, match=r"1\.jpg"):
        load(root, cache=True)  # reads everything at once


def test_an_unknown_category_gets_near_names(tmp_path):
    root = write(tmp_path)
    assert fault(root, categories=["zebr"]).endswith("has no category 'zebr'; did you mean zebra?")
    assert "it has dog, cat, zebra" in fault(root, categories=["qqqq"])


def test_a_choice_that_leaves_nothing_is_an_error(tmp_path):
    root = write(tmp_path)
    assert "max_images must be at least 1, got 0" in fault(root, max_images=0)
    assert "no image is left of 2" in fault(root, categories=["zebra"], keep_empty=False)
    assert "no category is left" in fault(root, categories=[])


# Boxes that do not fit


def test_empty_boxes_are_dropped_and_outlying_ones_clipped_with_one_warning(tmp_path, caplog):
    rows = [
        box(1, bbox=(5, 5, 0, 10)),  # no width
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


# Image files of other kinds


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_images_of_every_mode_load_as_rgb(tmp_path, mode):
    name = "1.jpg" if mode == "CMYK" else "1.png"
    root = write(tmp_path, images=[image(1, file_name=name)], draw=False)
    if mode == "I;16":
        source = Image.fromarray(np.full((30, 40), 255 * 256, dtype=np.uint16))
    else:
        source = Image.new("RGB", (40, 30), "white").convert(mode)
    source.save(root / "train" / "images" / name)
    picture, _ = load(root)[0]
    assert picture.shape == (3, 30, 40)
    assert torch.allclose(picture, torch.ones(3, 30, 40), atol=0.02)


def test_a_palette_with_transparency_loads_without_a_warning(tmp_path):
    root = write(tmp_path, images=[image(1)], draw=False)
    source = Image.new("RGB", (40, 30), "red").convert("P", palette=Image.Palette.ADAPTIVE)
    source.save(root / "train" / "images" / "1.png", transparency=b"\x80\x40")
    picture, _ = load(root)[0]
    assert picture[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_exif_orientation_does_not_turn_the_pixels(tmp_path):
    root = write(tmp_path, images=[image(1, file_name="1.jpg")], draw=False)
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    pixels[:, :20] = 255  # the left half is white, as the boxes see it
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to view"
    Image.fromarray(pixels).save(root / "train" / "images" / "1.jpg", exif=exif)
    picture, _ = load(root)[0]
    assert picture.shape == (3, 30, 40)
    assert picture[:, :, :18].min() > 0.9 and picture[:, :, 22:].max() < 0.1


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
