"""Small folders in other formats for the tests, and what becomes of them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 30)  # width and height of every photo, px


def photo(path: Path, size=SIZE, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, dtype=np.uint8)).save(path)
    return path


def person(full=(5, 5, 10, 20), visible=(5, 5, 10, 10), head=(7, 5, 4, 4), **changes) -> dict:
    row = {"tag": "person", "fbox": list(full), "vbox": list(visible), "hbox": list(head)}
    return row | {"extra": {"box_id": 0, "occ": 0}, "head_attr": {"ignore": 0, "occ": 0, "unsure": 0}} | changes


def mask(box=(20, 0, 15, 15)) -> dict:
    return person(box, box, box, tag="mask", extra={"ignore": 1}, head_attr={})


def crowdhuman(folder: Path, **splits: dict[str, list]) -> Path:
    """`split={ID: gts}`; every ID has its photo."""
    for split, photos in splits.items():
        lines = [json.dumps({"ID": name, "gtboxes": gts}) for name, gts in photos.items()]
        folder.mkdir(exist_ok=True)
        (folder / f"annotation_{split}.odgt").write_text("\n".join(lines) + "\n")
        for name in photos:
            photo(folder / "Images" / f"{name}.jpg")
    return folder


def rows_of(folder: Path, split: str = "train") -> list[tuple]:
    """(file name, class, box, iscrowd) of every annotation that was written."""
    content = json.loads((folder / split / "instances.json").read_text())
    files = {row["id"]: row["file_name"] for row in content["images"]}
    names = {row["id"]: row["name"] for row in content["categories"]}
    return [
        (files[row["image_id"]], names[row["category_id"]], tuple(row["bbox"]), row["iscrowd"])
        for row in content["annotations"]
    ]


def voc_xml(*objects: tuple, size=SIZE, head: str = "") -> str:
    """An XML file of objects (name, (xmin, ymin, xmax, ymax), difficult)."""
    items = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox><part><name>head</name></part></object>"
        for name, box, difficult in objects
    )
    width, height = size
    return f"{head}<annotation><size><width>{width}</width><height>{height}</height></size>{items}</annotation>"


def voc(folder: Path, photos: dict[str, str], **lists: list[str]) -> Path:
    """`photos`: a name and its XML; `split=[names]` are the lists."""
    (folder / "Annotations").mkdir(parents=True)
    for name, xml in photos.items():
        (folder / "Annotations" / f"{name}.xml").write_text(xml)
        photo(folder / "JPEGImages" / f"{name}.jpg")
    for split, names in lists.items():
        (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def yolo(folder: Path, names: str | None = "names: [cat, dog]\n", nested: bool = False, **splits: dict) -> Path:
    """`split={name: text}`; a text None leaves the file out. `nested`: SPLIT/images instead of images/SPLIT."""
    for split, photos in splits.items():
        for name, text in photos.items():
            images, labels = (folder / (f"{split}/{p}" if nested else f"{p}/{split}") for p in ("images", "labels"))
            photo(images / f"{name}.png")
            labels.mkdir(parents=True, exist_ok=True)
            if text is not None:
                (labels / f"{name}.txt").write_text(text)
    if names is not None:
        (folder / "data.yaml").write_text(names)
    return folder
