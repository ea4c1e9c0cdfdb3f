import os

import numpy as np
import pytest
from coco_files import box, fault, image, load, write
from PIL import Image

from otalab.data import CocoDataset, find_split
from otalab.errors import InputError

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
    assert "1 of 1 images are missing" in fault(write(tmp_path / "b", images=[row], draw=False))


# Bad input, each with one line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [,]}', "instances.json is not JSON: Expecting value: line 1 column 13 "),
        ('{\n "images": [', "line 2 column"),
        ("\udcff", "instances.json is not JSON"),
        ("[]", "holds a list, not a COCO dictionary"),
        ('{"images": [], "annotations": []}', "has no list 'categories'"),
        ('{"images": [{"id": 1, "width": 4, "height": 4}]}', "images[0] has no 'file_name'"),
        ('{"images": [3]}', "images[0] is not a dictionary"),
        ("", "instances.json is empty"),
        ('{"images": [], "images": []}', "a dictionary has the key 'images' twice"),
        ("[" * 100_000, "its brackets are nested too deep"),
        ('{"images": [1' + "0" * 9999 + "]}", "Exceeds the limit"),
        ("\x1f\udc8b\x08", "instances.json is not JSON: compressed, unpack it first"),
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
        ([{**box(4), "bbox": 5}], "annotation 4 has bbox 5, not [x, y, width, height]"),
        ([box(4, area=None)], "annotation 4 has area None"),
        ([box(4, bbox=(1, 2, 10**400, 4))], "its values must be finite px, at most 1e+09"),
        ([box(4, area=float("inf"))], "annotation 4 has area inf, not a finite number"),
        ([box(4, iscrowd=2)], "iscrowd 2"),
        ([box(4, ignore="no")], "annotation 4 has ignore 'no', neither 0 nor 1"),
        ([box(None)], "annotations[0] has id None, neither a whole number nor a text"),
        ([box(4, image_id=1.5)], "annotations[0] has image_id 1.5, neither a whole number nor a text"),
        ([box(4, category=[3])], "annotations[0] has category_id [3], neither"),
        ([box(True)], "annotations[0] has id True, neither"),
        ([box(4, bbox=["x" * 9999] * 4)], "...xxx"),
        ([{key: value for key, value in box(4).items() if key != "category_id"}], "has no 'category_id'"),
        ([box(4), box(4)], "annotation 4 is there twice"),
        ([box(4, image_id="1")], "annotation 4 names image '1', which is not listed, though 1 is"),
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
        (image(1, height=None), "image 1 has height None, not a whole number"),
        (image(1, height="30"), "image 1 has height '30', not a whole number"),
        (image(1, width=40.5), "image 1 has width 40.5, not a whole number"),
        (image(1, width=float("nan")), "image 1 has width nan, not a whole number"),
        (image(1, width=10**9, height=10**9), "1000000000 x 1000000000 px; at most 178,956,970 pixels are taken"),
        (image(1, file_name=7), "image 1 has file_name 7, not a text"),
        (image(1, file_name="\0.png"), "which holds a control character"),
        (image(1, file_name="\ud800.png"), "or half a character"),
    ],
)
def test_a_bad_image_row_is_named(tmp_path, row, message):
    assert message in fault(write(tmp_path, images=[row], draw=False))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_file_of_another_unicode_encoding_is_read(tmp_path, encoding):
    root = write(tmp_path)
    path = root / "train" / "instances.json"
    path.write_bytes(path.read_text().encode(encoding))
    assert load(root).class_names == ["dog", "cat", "zebra"]


def test_whole_numbers_written_as_floats_are_taken(tmp_path):
    rows = [image(1.0, file_name="1.png", width=40.0, height=3e1)]
    root = write(tmp_path, images=rows, annotations=[box(1.0, image_id=1.0, category=3.0)], draw=False)
    Image.new("RGB", (40, 30)).save(root / "train" / "images" / "1.png")
    _, target = load(root)[0]
    assert target["image_id"] == 1 and target["size"].tolist() == [30, 40] and target["labels"].tolist() == [0]


def test_an_error_is_one_line_however_the_files_are_called(tmp_path):
    folder = tmp_path / "two\nlines"
    assert "two\\nlines" in fault(write(folder, annotations=[box(1, image_id=9)]))
    assert fault(write(tmp_path / "b", images=[image(1, file_name="a\nb.png")], draw=False)).endswith("is a\\nb.png")
    long = image(1, file_name=f"{'a' * 9999}.png")
    assert len(fault(write(tmp_path / "c", images=[long], draw=False))) < 700


def test_file_names_may_hold_dots_and_doubled_slashes(tmp_path):
    root = write(tmp_path, images=[image(1, file_name="./a//1.png")], draw=False)
    (root / "train" / "images" / "a").mkdir()
    Image.new("RGB", (40, 30)).save(root / "train" / "images" / "a" / "1.png")
    assert len(list(load(root))) == 1


def test_a_pipe_is_no_annotation_file(tmp_path):
    root = write(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is not a regular file"):
        CocoDataset(tmp_path / "pipe", root / "train" / "images")  # and does not wait for a writer


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
    assert fault(root, categories=["qqqq"]).endswith("it has dog, cat, zebra")


def test_a_choice_that_leaves_nothing_is_an_error(tmp_path):
    root = write(tmp_path)
    assert "max_images must be at least 1, got 0" in fault(root, max_images=0)
    said = fault(root, categories=["zebra"], background=0)
    assert "no image is left of 2: 1 without a box, 1 without a box of the chosen categories (--background N" in said
    assert "no category is left" in fault(root, categories=[])
