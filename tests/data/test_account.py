"""Nothing is left out in silence: the account of a data set, and its numbers."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from coco_files import CATEGORIES, box, fault, image, load, write
from command_line import otalab

from otalab.data import CocoDataset, eval_transforms
from otalab.data.transforms import resized
from otalab.errors import InputError

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "coco_mini"


def mixed(root):
    """Ten images: 1-3 with a dog, 4 and 5 with a cat, 6 with a region to ignore, 7 with a box of zero area, 8-10 bare;
    on image 1 also a box outside it and one under a pixel."""
    rows = [box(i, image_id=i) for i in (1, 2, 3)] + [box(i, image_id=i, category=7) for i in (4, 5)]
    rows += [box(6, image_id=6, ignore=1), box(7, image_id=7, bbox=(5, 5, 0, 9), area=0)]
    rows += [box(8, bbox=(50, 5, 9, 9), area=81), box(9, bbox=(1, 1, 0.5, 9), area=4)]
    return write(root, images=[image(i) for i in range(1, 11)], annotations=rows)


def numbers_add_up(lines: list[str]) -> bool:
    """Whether what is used and what is left out make the whole, in images and in boxes."""
    for line in lines[:2]:
        used, whole = map(int, re.search(r"(\d+) of (\d+) used", line).groups())
        reasons = line.partition("left out: ")[2]
        if used + sum(map(int, re.findall(r"(?:^|, )(\d+) ", reasons))) != whole:
            return False
    images = re.search(r"(\d+) of \d+ used, (\d+) with a box, (\d+) without", lines[0])
    with_box, without = int(images[2]), int(images[3])
    return int(images[1]) == with_box + without


def test_an_account_says_what_is_used_and_what_is_left_out_and_why(tmp_path):
    root = mixed(tmp_path)
    assert load(root).account() == [
        "images: 10 of 10 used, 5 with a box, 5 without",
        "boxes: 5 of 9 used; left out: 1 of zero area, 1 outside their image, 1 regions to ignore (iscrowd, ignore), "
        "1 under 1 px",
        "classes: 3 (dog 3, cat 2); 1 without a box: zebra",
    ]
    assert load(root, categories=["dog"], background=1, max_images=3, seed=2).account() == [
        "images: 3 of 10 used, 2 with a box, 1 without; left out: 4 without a box, "
        "2 without a box of the chosen categories, 1 beyond max_images 3",
        "boxes: 2 of 9 used; left out: 2 of other categories, 3 in images left out, 1 outside their image, "
        "1 under 1 px",
        "classes: 1 (dog 2)",
    ]


@pytest.mark.parametrize("categories", [None, ["dog"], ["cat", "zebra"]])
@pytest.mark.parametrize("background", [None, 0, 3])
@pytest.mark.parametrize("max_images", [None, 2])
def test_its_numbers_add_up(tmp_path, categories, background, max_images):
    data = load(mixed(tmp_path), categories=categories, background=background, max_images=max_images)
    for size in (None, 15, 300):
        lines = data.account(size)
        assert numbers_add_up(lines), lines
    assert lines[0].startswith(
        f"images: {len(data)} of 10 used, {sum(len(t['boxes']) > 0 for _, t in data)} with a box"
    )


@pytest.mark.parametrize(("size", "max_size"), [(None, None), (15, None), (17, 20), (61, 70), (300, None)])
def test_a_box_counts_as_under_a_pixel_just_when_the_transforms_drop_it(tmp_path, size, max_size):
    generator = torch.Generator().manual_seed(0)
    corners = 0.8 * torch.rand(400, 2, generator=generator) * torch.tensor([40, 30])
    sides = torch.cat((4 * torch.rand(390, 2, generator=generator), torch.ones(5, 2), torch.full((5, 2), 40 / 17)))
    boxes = torch.cat((corners, sides), 1).tolist()
    rows = [box(i, bbox=b, image_id=1 + i % 2, area=b[2] * b[3]) for i, b in enumerate(boxes)]
    data = load(write(tmp_path, annotations=rows), transforms=eval_transforms(size, max_size))
    kept = sum(len(target["boxes"]) for _, target in data)
    assert data.account(size, max_size)[1].startswith(f"boxes: {kept} of 400 used")
    assert 0 < kept < 400
    with_size = "" if size is None else f" at size {size}"
    assert data.account(size, max_size)[1].endswith(f"left out: {400 - kept} under 1 px{with_size}")


def test_background_is_how_many_images_without_a_box_take_part(tmp_path):
    root = mixed(tmp_path)
    assert load(root).image_ids == load(root, background=99).image_ids == [*range(1, 11)]
    assert load(root, background=0).image_ids == [1, 2, 3, 4, 5]
    some = [set(load(root, background=n, seed=4).image_ids) for n in range(6)]
    assert [len(images) for images in some] == [5, 6, 7, 8, 9, 10]
    assert all(small < large for small, large in pairwise(some))
    chosen = {tuple(load(root, background=2, seed=seed).image_ids) for seed in range(5)}
    assert len(chosen) > 1
    assert load(root, categories=["dog"], background=0).image_ids == [1, 2, 3]
    assert "background must be at least 0, got -1" in fault(root, background=-1)
    assert "max_images must be at least 1, got 0" in fault(root, max_images=0)


def test_an_image_whose_boxes_all_lie_outside_it_is_background(tmp_path):
    rows = [box(1), box(2, image_id=2, bbox=(50, 5, 9, 9))]
    assert load(write(tmp_path, annotations=rows), background=0).image_ids == [1]


def test_the_line_of_classes_is_short_for_many(tmp_path):
    names = [{"id": i, "name": f"class {i}"} for i in range(400)]
    rows = [box(i, category=i // 2) for i in range(300)]
    line = load(write(tmp_path, categories=names, annotations=rows)).account()[2]
    assert line.startswith("classes: 400 (class 0 2, class 1 2, ") and len(line) < 500
    assert "138 more 276); 250 without a box: class 150" in line and line.endswith("and 238 more")


def test_the_summary_command_prints_the_account_of_each_split(tmp_path, capsys):
    root = mixed(tmp_path)
    (root / "train").rename(root / "val")
    write(tmp_path, categories=CATEGORIES)
    assert otalab("data", "summary", root) == 0
    said = capsys.readouterr().out.splitlines()
    for split, data in (("train", load(root)), ("val", CocoDataset.from_folder(root, "val"))):
        place = said.index(f"{split}: {data.summary()}")
        assert said[place + 1 : place + 4] == [f"  {line}" for line in data.account()]


# The sizes that the account and the transforms go by


def test_a_narrow_image_keeps_a_pixel_when_it_is_resized():
    assert resized(4000, 1, 800, 1333) == (1333, 1)
    assert resized(1, 4000, 800, 1333) == (1, 1333)
    assert resized(30, 40, 20, 20) == (15, 20)
    assert resized(30, 40, None) == (30, 40)


def test_an_image_that_would_become_too_large_is_refused_before_it_is_made():
    with pytest.raises(
        InputError, match=r"1 x 4000 px would become 800 x 3200000 px at size 800, more than 178,956,970"
    ):
        resized(4000, 1, 800)
    with pytest.raises(InputError, match="choose a smaller size, or a max_size"):
        eval_transforms(800)(torch.zeros(3, 4000, 1), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)})


def test_the_account_of_real_photos():
    if not PHOTOS.is_dir():
        return  # a clone has no photos; the synthetic tests above cover the same code
    lines = CocoDataset.from_folder(PHOTOS, "train", background=0).account()
    assert lines[0] == "images: 334 of 337 used, 334 with a box, 0 without; left out: 3 without a box"
    assert lines[1].startswith("boxes: 2,807 of 2,838 used; left out: ") and "3 under 1 px" in lines[1]
