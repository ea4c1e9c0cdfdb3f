"""A small COCO-format data set for the tests, to be spoilt as each test likes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from otalab.data import CocoDataset
from otalab.errors import InputError

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
