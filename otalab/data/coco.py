"""COCO-format folders as a PyTorch data set: images in 0..1, boxes in pixels, labels 0..C-1."""

import difflib
import json
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from otalab.errors import InputError

log = logging.getLogger(__name__)

_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def find_split(folder: str | Path, split: str) -> tuple[Path, Path]:
    """The annotation file and the image folder of a split ("train" or "val").

    Knows `ROOT/{split}/instances.json` beside `ROOT/{split}/images/`, that `ROOT/{split}` itself, and the official
    `ROOT/annotations/instances_{split}2017.json` beside `ROOT/{split}2017/`. Raises InputError that names what is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    layouts = [
        (folder / split / "instances.json", folder / split / "images"),
        (folder / "annotations" / f"instances_{split}2017.json", folder / f"{split}2017"),
    ]
    if folder.name == split:
        layouts.append((folder / "instances.json", folder / "images"))
    for annotations, images in layouts:
        if annotations.is_file():
            if not images.is_dir():
                raise InputError(f"{annotations} has no image folder {images}")
            return annotations, images
    raise InputError(f"no {split} split in {folder}: looked for {' and '.join(str(a) for a, _ in layouts)}")


class CocoDataset(torch.utils.data.Dataset):
    """A COCO annotation file with its images.

    Item: `(image, target)`, image float32 (3, H, W) in 0..1, target a dict of
    `boxes` (m, 4) float32 xyxy px, `labels` (m,) int64 in 0..C-1, `ignore_boxes` (c, 4) float32 xyxy px (the `iscrowd`
    regions, never training targets), `image_id` int64 scalar, `size` (2,) int64: the file's height and width, px.

    `transforms(image, target)` sees a uint8 `tv_tensors.Image` and a dict whose `boxes` are `tv_tensors.BoundingBoxes`
    with the crowd regions among them, marked by label -1. `categories` keeps only the named classes; `keep_empty=False`
    leaves out images without a box; `max_images` then chooses that many by `seed` (a smaller choice is part of a larger
    one). `cache=True` decodes everything at once and keeps it as uint8: 3 H W bytes an image.

    Boxes are clipped to the image; those of zero area, before or after, are dropped: `.clipped` and `.dropped` count
    them, and one warning is logged. Everything else that is wrong with the files raises InputError, here where possible.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        transforms: Callable | None = None,
        categories: Sequence[str] | None = None,
        max_images: int | None = None,
        keep_empty: bool = True,
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        self.annotations, self.images, self.transforms = Path(annotations), Path(images), transforms
        if max_images is not None and max_images < 1:
            raise InputError(f"max_images must be at least 1, got {max_images}")
        content = _read(self.annotations)
        self.class_names, self.category_ids = _choose_categories(content, categories, self.annotations)
        rows, boxes = _check_annotations(content, self.annotations)
        label = {category: i for i, category in enumerate(self.category_ids)}
        chosen = [i for i, row in enumerate(rows) if row["category_id"] in label]
        rows, boxes = [rows[i] for i in chosen], boxes[chosen]

        files = sorted(content["images"], key=lambda row: row["id"])
        if not keep_empty:
            filled = {row["image_id"] for row in rows if not row.get("iscrowd")}
            files = [row for row in files if row["id"] in filled]
        if max_images is not None and max_images < len(files):
            order = np.random.default_rng(seed).permutation(len(files))[:max_images]
            files = [files[i] for i in sorted(order)]
        if not files:
            raise InputError(f"{self.annotations}: no image is left of {len(content['images'])}")
        self.image_ids = [row["id"] for row in files]
        self._files = [row["file_name"] for row in files]
        self._sizes = np.array([(row["height"], row["width"]) for row in files], dtype=np.int64)
        _check_files(self.images, self._files)

        # Rows as arrays, sorted by image: a list of a million dicts would be copied by every loader process.
        index = {image: i for i, image in enumerate(self.image_ids)}
        kept = sorted(
            (i for i, row in enumerate(rows) if row["image_id"] in index), key=lambda i: index[rows[i]["image_id"]]
        )
        rows = [rows[i] for i in kept]
        self._raw = boxes[kept]  # float64 xywh as annotated
        self._ids = np.array([row["id"] for row in rows], dtype=np.int64)
        self._image = np.array([index[row["image_id"]] for row in rows], dtype=np.int64)
        self._labels = np.array([label[row["category_id"]] for row in rows], dtype=np.int64)
        self._crowd = np.array([bool(row.get("iscrowd", 0)) for row in rows], dtype=bool)
        self._area = np.array([row.get("area", row["bbox"][2] * row["bbox"][3]) for row in rows], dtype=np.float64)
        self._first = np.searchsorted(self._image, np.arange(len(files) + 1))
        self._clip()
        self._cache = [self._decode(i) for i in range(len(files))] if cache else None

    @classmethod
    def from_folder(
        cls, folder: str | Path, split: str, transforms: Callable | None = None, **options
    ) -> "CocoDataset":
        """The split of a folder in either layout that `find_split` knows; options as in the constructor."""
        return cls(*find_split(folder, split), transforms=transforms, **options)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, i: int) -> tuple[Float[Tensor, "3 h w"], dict[str, Tensor]]:
        image = tv_tensors.Image(self._decode(i) if self._cache is None else self._cache[i])
        rows = slice(self._first[i], self._first[i + 1])
        keep = self._usable[rows]
        labels = np.where(self._crowd[rows], -1, self._labels[rows])[keep]
        boxes = torch.from_numpy(self._boxes[rows][keep])
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(image.shape[-2:])),
            "labels": torch.from_numpy(labels),
            "image_id": torch.tensor(self.image_ids[i]),
            "size": torch.from_numpy(self._sizes[i]),
        }
        if self.transforms is not None:
            image, target = self.transforms(image, target)
        boxes, labels = target["boxes"].as_subclass(Tensor).reshape(-1, 4), target["labels"]
        image = F.to_dtype(image, torch.float32, scale=True).as_subclass(Tensor)
        return image, {
            **target,
            "boxes": boxes[labels >= 0],
            "labels": labels[labels >= 0],
            "ignore_boxes": boxes[labels < 0],
        }

    def ground_truth(self) -> dict:
        """The COCO dict of the chosen images and classes, for pycocotools: boxes as annotated, crowd rows included."""
        images = [
            {"id": image, "file_name": name, "height": int(height), "width": int(width)}
            for image, name, (height, width) in zip(self.image_ids, self._files, self._sizes, strict=True)
        ]
        annotations = [
            {
                "id": int(self._ids[j]),
                "image_id": self.image_ids[self._image[j]],
                "category_id": self.category_ids[self._labels[j]],
                "bbox": self._raw[j].tolist(),
                "area": float(self._area[j]),
                "iscrowd": int(self._crowd[j]),
            }
            for j in range(len(self._ids))
        ]
        names = zip(self.category_ids, self.class_names, strict=True)
        categories = [{"id": category, "name": name} for category, name in names]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def summary(self) -> str:
        """One line: images, boxes, classes, crowd regions, images without a box."""
        boxes = self._usable & ~self._crowd
        empty = len(self) - len(np.unique(self._image[boxes]))
        return (
            f"{len(self)} images, {boxes.sum()} boxes, {len(self.class_names)} classes, "
            f"{(self._usable & self._crowd).sum()} crowd regions, {empty} images without a box"
        )

    def _clip(self) -> None:
        """Clip the boxes to their images and set aside the empty ones."""
        high, wide = self._sizes[self._image].T
        limit = np.stack([wide, high, wide, high], 1)
        corners = np.concatenate([self._raw[:, :2], self._raw[:, :2] + self._raw[:, 2:]], 1)
        clipped = corners.clip(0, limit)
        size = clipped[:, 2:] - clipped[:, :2]
        self._usable = (size > 0).all(1)
        self._boxes = clipped.astype(np.float32)
        self.dropped = int((~self._usable).sum())
        moved = np.abs(clipped - corners).max(1, initial=0) >= 1  # annotators' rounding, below a pixel, is no fault
        self.clipped = int((moved & self._usable).sum())
        zero = int((self._raw[:, 2:] == 0).any(1).sum())
        if self.dropped or self.clipped:
            log.warning(
                "%s: %d boxes of zero area and %d outside their image dropped, %d clipped to their image",
                self.annotations, zero, self.dropped - zero, self.clipped,
            )  # fmt: skip

    def _decode(self, i: int) -> UInt8[Tensor, "3 h w"]:
        path = self.images / self._files[i]
        image = _read_image(path)
        if image.shape[:2] != tuple(self._sizes[i]):
            raise InputError(
                f"{path} is {image.shape[1]} x {image.shape[0]} px, but its annotation says "
                f"{self._sizes[i][1]} x {self._sizes[i][0]}"
            )
        return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def collate(batch: list[tuple[Tensor, dict]]) -> tuple[list[Tensor], list[dict]]:
    """A batch as torchvision's detectors want it: a list of images and a list of targets."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def _read(path: Path) -> dict:
    """The annotation file, its keys and ids checked."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not JSON: {error.reason} at byte {error.start}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not a COCO dictionary")
    for part, keys in _KEYS.items():
        rows = content.get(part)
        if not isinstance(rows, list):
            raise InputError(f"{path} has no list {part!r}")
        seen = set()
        for i, row in enumerate(rows):
            missing = [key for key in keys if not isinstance(row, dict) or key not in row]
            if missing:
                raise InputError(f"{path}: {part}[{i}] has no {', '.join(map(repr, missing))}")
            wrong = [key for key in keys if key.endswith(("id", "width", "height")) and type(row[key]) is not int]
            if wrong:
                raise InputError(f"{path}: {part}[{i}] has {wrong[0]} {row[wrong[0]]!r}, not an integer")
            if row["id"] in seen:
                raise InputError(f"{path}: {part} has id {row['id']} twice")
            seen.add(row["id"])
    return content


def _choose_categories(content: dict, names: Sequence[str] | None, path: Path) -> tuple[list[str], list[int]]:
    """Class names and category ids, in the order of the ids."""
    rows = sorted(content["categories"], key=lambda row: row["id"])
    known = [row["name"] for row in rows]
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known) or known[:5]
            raise InputError(f"{path} has no category {name!r}; did you mean {', '.join(near)}?")
    rows = [row for row in rows if names is None or row["name"] in names]
    if not rows:
        raise InputError(f"{path}: no category is left")
    return [row["name"] for row in rows], [row["id"] for row in rows]


def _check_annotations(content: dict, path: Path) -> tuple[list[dict], np.ndarray]:
    """The annotation rows with their boxes (m, 4) float64 xywh, each belonging to a known image and category."""
    images = {row["id"] for row in content["images"]}
    categories = {row["id"] for row in content["categories"]}
    rows = content["annotations"]
    for row in rows:
        where, box = f"{path}: annotation {row['id']}", row["bbox"]
        if row["image_id"] not in images:
            raise InputError(f"{where} names image {row['image_id']}, which is not listed")
        if row["category_id"] not in categories:
            raise InputError(f"{where} names category {row['category_id']}, which is not listed")
        if not isinstance(box, list) or len(box) != 4:
            raise InputError(f"{where} has bbox {box!r}, not [x, y, width, height]")
        numbers = all(type(value) in (int, float) and math.isfinite(value) for value in box)
        if not numbers or box[2] < 0 or box[3] < 0:
            raise InputError(f"{where} has bbox {box!r}; its values must be finite, its sides not negative")
    return rows, np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)


def _check_files(folder: Path, names: list[str]) -> None:
    """Every image is there; each folder is listed once."""
    parents = {os.path.dirname(name) for name in names}
    try:
        there = {os.path.join(parent, entry.name) for parent in parents for entry in os.scandir(folder / parent)}
    except OSError as error:
        raise InputError(f"cannot list image folder {error.filename}: {error.strerror}") from None
    missing = [name for name in names if name not in there]
    if missing:
        raise InputError(f"{len(missing)} of {len(names)} images are missing in {folder}, the first is {missing[0]}")


def _read_image(path: Path) -> np.ndarray:
    """The file's pixels (H, W, 3) uint8 RGB, never turned by EXIF: COCO's boxes refer to the pixels as stored."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip to white
                return np.repeat((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
            if "transparency" in image.info:
                image = image.convert("RGBA")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from None
