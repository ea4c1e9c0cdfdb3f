import json

import numpy as np
from PIL import Image

from otalab.data import CocoDataset
from otalab.lab.set_table import set_table

NAMES = ("cat", "dog", "owl")


def write(root, images: dict[str, list], size=(200, 100), names=("cat", "dog")) -> CocoDataset:
    """Each image a list of (box xywh, label, iscrowd)."""
    (root / "images").mkdir(parents=True)
    rows = []
    for i, (name, gts) in enumerate(images.items(), 1):
        Image.fromarray(np.zeros((size[1], size[0], 3), dtype=np.uint8)).save(root / "images" / name)
        for box, label, crowd in gts:
            row = {"id": len(rows) + 1, "image_id": i, "category_id": label + 1, "bbox": box, "iscrowd": crowd}
            rows.append(row | {"area": box[2] * box[3]})
    content = {
        "images": [{"id": i, "file_name": n, "width": size[0], "height": size[1]} for i, n in enumerate(images, 1)],
        "annotations": rows,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return CocoDataset(root / "instances.json", root / "images")


def test_the_table_counts_sizes_classes_and_crowding(tmp_path):
    first = [([0, 0, 100, 100], 0, 0), ([0, 0, 100, 60], 1, 0), ([150, 50, 10, 10], 0, 0), ([0, 0, 200, 100], 0, 1)]
    data = write(
        tmp_path, {"a.png": first, "b.png": [([0, 0, 40, 40], 0, 0)], "c.png": []}, names=("cat", "dog", "owl")
    )
    lines = set_table(data).splitlines()
    assert lines[:4] == [
        "images      3; width 200 px, height 100 px",
        "boxes       4; an image 0 to 3 (half up to 1), on average 1.3",
        "box size    10 to 100 (half up to 59) px; small: 25 %, medium: 50 %, large: 25 %",
        "crowding    IoU 0: 50 %, IoU 0 to 0.2: 0 %, IoU 0.2 to 0.5: 0 %, IoU 0.5 or more: 50 %",
    ]
    assert lines[6].split() == ["cat", "3", "2", "40", "33", "%"]
    assert lines[7].split() == ["dog", "1", "1", "77", "100", "%"]
    assert lines[8] == "1 of 3 classes without a box"


def test_a_set_without_a_box_and_one_of_many_classes_have_tables(tmp_path):
    assert "boxes       0; an image 0, on average 0.0" in set_table(write(tmp_path / "a", {"a.png": []}))
    names = [f"class {i}" for i in range(30)]
    gts = [([i, i, 5, 5], i, 0) for i in range(30)]
    lines = set_table(write(tmp_path / "b", {"a.png": gts}, names=names)).splitlines()
    assert len(lines) == 27 and lines[-1].split() == ["10", "more", "classes", "10"]
