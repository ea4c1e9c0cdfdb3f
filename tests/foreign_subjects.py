"""More of what is damaged, see subjects.py: annotations of other formats, and manifests."""

import json
import math
import tempfile
from pathlib import Path

import mutations
import numpy as np
from PIL import Image

from otalab.data import CocoDataset
from otalab.data.crowdhuman import BOXES, PERSON, read_odgt
from otalab.data.foreign import Split, write_folder
from otalab.data.manifest import Manifest, read_manifest
from otalab.data.voc import read_voc
from otalab.data.yolo import read_yolo
from otalab.lab.crowd_metrics import crowd_metrics

VOC_OBJECTS = "".join(
    f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{x}</xmin><ymin>3</ymin>"
    f"<xmax>{x + 12}</xmax><ymax>25</ymax></bndbox></object>"
    for name, hard, x in (("cat", 0, 2), ("dog", 0, 20), ("cat", 1, 26))
)
VOC = f"<annotation><size><width>40</width><height>30</height></size>{VOC_OBJECTS}</annotation>"
YOLO = "0 0.5 0.5 0.25 0.4\n1 0.25 0.25 0.5 0.5\n1 0.8 0.75 0.3 0.4\n"


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((30, 40, 3), 90, dtype=np.uint8)).save(path)


def written(splits: dict[str, Split], names: list[str], boxes: int) -> str:
    """Write what was read, load it as training and evaluation do, and compare the counts."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(Path(place) / "set", splits, names, progress=False)
        for name, split in ((name, split) for name, split in splits.items() if split.photos):
            data = CocoDataset.from_folder(folder, name)
            marks = [mark for photo in split.photos for mark in photo.marks]
            assert all(math.isfinite(value) for mark in marks for value in mark.box)
            truth = data.ground_truth()
            assert len(truth["annotations"]) == len(marks) and len(data) == len(split.photos)
            json.dumps(truth, allow_nan=False)
            for _, target in data:
                assert target["boxes"].isfinite().all()
            found = [row | {"score": 0.5} for row in truth["annotations"] if not row["iscrowd"]]
            assert all(math.isnan(value) or 0 <= value <= 1 for value in crowd_metrics(truth, found).values())
    left_out = sum((sum((s.photos_left_out + s.boxes_left_out).values()) for s in splits.values()), 0)
    return "skipped" if left_out or len(marks) < boxes else "right"


def odgt(folder: Path):
    """Three lines, with a region to ignore and a box beyond its photo."""
    rows = []
    for i in range(3):
        box = {"fbox": [-5 + 4 * i, 2, 14, 20], "vbox": [4, 2, 10, 12], "hbox": [6, 2, 4, 4]}
        gts = [
            box | {"tag": tag, "extra": {"ignore": n}, "head_attr": {"ignore": 0}}
            for n, tag in enumerate((PERSON, "mask"))
        ]
        rows.append({"ID": f"photo{i}", "gtboxes": gts})
        draw(folder / "Images" / f"photo{i}.jpg")
    lines = [json.dumps(row) for row in rows]

    def damage(seed: int) -> bytes:
        if seed % 3 == 0:
            return mutations.of_bytes("\n".join(lines).encode(), seed)
        i = seed % len(rows)
        return "\n".join([*lines[:i], mutations.of_json(rows[i], seed), *lines[i + 1 :]]).encode()

    def use(path: Path) -> str:
        return max(
            written({"train": read_odgt(path, folder / "Images", kind, clip)}, [PERSON], 6)
            for kind, clip in zip(BOXES, (False, False, True), strict=True)
        )

    return "annotation_train.odgt", "\n".join(lines).encode(), damage, use


def voc(folder: Path):
    """An XML file; its photo is put beside it."""

    def use(path: Path) -> str:
        draw(path.with_suffix(".png"))
        return written(*read_voc(path.parent), boxes=3)

    def damage(seed: int) -> bytes:
        return mutations.of_bytes(VOC.encode(), seed) if seed % 3 == 0 else mutations.of_xml(VOC, seed)

    return "a.xml", VOC.encode(), damage, use


def yolo(folder: Path):
    """A text file; the rest of its folder is made around it."""

    def use(path: Path) -> str:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            draw(root / "images/train/a.png")
            (root / "labels/train").mkdir(parents=True)
            (root / "labels/train/a.txt").write_bytes(path.read_bytes())
            (root / "classes.txt").write_text("cat\ndog\n")
            return written(*read_yolo(root), boxes=3)

    def damage(seed: int) -> bytes:
        return mutations.of_bytes(YOLO.encode(), seed) if seed % 3 == 0 else mutations.of_words(YOLO, seed)

    return "a.txt", YOLO.encode(), damage, use


def manifest(folder: Path):
    """A manifest: what is read from it has the hash that it says."""
    right = Manifest("train", [3, 20, 100], ["cat", "dog"], 7)
    right.write(folder / "ids.json")
    whole = (folder / "ids.json").read_bytes()
    content = json.loads(whole)

    def use(path: Path) -> str:
        found = read_manifest(path)
        assert found.ids == right.ids and all(type(i) is int for i in found.ids)
        return "right"

    def damage(seed: int) -> bytes:
        return mutations.of_bytes(whole, seed) if seed % 3 == 0 else mutations.of_json(content, seed).encode()

    return "ids.json", whole, damage, use


SUBJECTS = {"odgt": odgt, "voc": voc, "yolo": yolo, "manifest": manifest}
