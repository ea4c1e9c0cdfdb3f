"""Reading COCO annotation files and the images they name; every fault is one InputError line with file and id."""

import difflib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from otalab.errors import InputError

_KEYS = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}


def find_split(folder: str | Path, split: str) -> tuple[Path, Path]:
    """The annotation file and the image folder of a split ("train" or "val").

    Knows `ROOT/{split}/instances.json` beside `ROOT/{split}/images/`, that `ROOT/{split}` itself, and the official
    `ROOT/annotations/instances_{split}2017.json` beside `ROOT/{split}2017/`. Raises InputError naming what is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    layouts = [
        (folder / split / "instances.json", folder / split / "images"),
        (folder / "annotations" / f"instances_{split}2017.json", folder / f"{split}2017"),
    ]
    if folder.resolve().name == split:
        layouts.append((folder / "instances.json", folder / "images"))
    for annotations, images in layouts:
        if annotations.is_file():
            if not images.is_dir():
                raise InputError(f"{annotations} has no image folder {images}")
            return annotations, images
    raise InputError(f"no {split} split in {folder}: looked for {' and '.join(str(a) for a, _ in layouts)}")


def read_annotations(path: Path) -> dict:
    """The COCO dictionary of a file: `images`, `annotations` and `categories`, their keys, types and ids checked."""
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
        if not isinstance(content.get(part), list):
            raise InputError(f"{path} has no list {part!r}")
        seen = set()
        for i, row in enumerate(content[part]):
            _check_keys(row, keys, f"{path}: {part}[{i}]")
            if row["id"] in seen:
                raise InputError(f"{path}: {part} has id {row['id']} twice")
            seen.add(row["id"])
    _check_images(content["images"], path)
    _check_annotations(content, path)
    return content


def choose_categories(content: dict, names: Sequence[str] | None, path: Path) -> tuple[list[str], list[int]]:
    """Class names and category ids in the order of the ids; all of them, or those named."""
    rows = sorted(content["categories"], key=lambda row: row["id"])
    known = [row["name"] for row in rows]
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known)
            hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known[:5])}, ..."
            raise InputError(f"{path} has no category {name!r}; {hint}")
    rows = [row for row in rows if names is None or row["name"] in names]
    if not rows:
        raise InputError(f"{path}: no category is left of {len(known)}")
    return [row["name"] for row in rows], [row["id"] for row in rows]


def choose_images(rows: list[dict], max_images: int | None, seed: int) -> list[dict]:
    """The image rows in the order of their ids; at most `max_images`, a smaller choice being part of a larger one."""
    if max_images is not None and max_images < 1:
        raise InputError(f"max_images must be at least 1, got {max_images}")
    rows = sorted(rows, key=lambda row: row["id"])
    if max_images is None or max_images >= len(rows):
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))[:max_images]
    return [rows[i] for i in sorted(order)]


def check_files(folder: Path, names: list[str]) -> None:
    """Raise InputError unless every image is there; each folder is listed once, not each file asked for."""
    parents = {os.path.dirname(name) for name in names}
    try:
        there = {os.path.join(parent, entry.name) for parent in parents for entry in os.scandir(folder / parent)}
    except OSError as error:
        raise InputError(f"cannot list image folder {error.filename}: {error.strerror}") from None
    missing = [name for name in names if name not in there]
    if missing:
        raise InputError(f"{len(missing)} of {len(names)} images are missing in {folder}, the first is {missing[0]}")


def read_image(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The file's pixels as RGB, never turned by EXIF: COCO's boxes refer to the pixels as they are stored."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip to white
                grey = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array((image.convert("RGBA") if "transparency" in image.info else image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}") from None


def as_xyxy(rows: list[dict]) -> Float[np.ndarray, "m 4"]:
    """The rows' boxes as float64 xyxy px."""
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _check_keys(row: object, keys: dict[str, type], where: str) -> None:
    if not isinstance(row, dict):
        raise InputError(f"{where} is not a dictionary")
    missing = [repr(key) for key in keys if key not in row]
    if missing:
        raise InputError(f"{where} has no {', '.join(missing)}")
    for key, kind in keys.items():
        if type(row[key]) is not kind:
            raise InputError(f"{where} has {key} {row[key]!r}, not of type {kind.__name__}")


def _check_images(rows: list[dict], path: Path) -> None:
    for row in rows:
        if row["width"] < 1 or row["height"] < 1:
            raise InputError(f"{path}: image {row['id']} is {row['width']} x {row['height']} px")
        if os.path.isabs(row["file_name"]) or ".." in Path(row["file_name"]).parts:
            raise InputError(f"{path}: image {row['id']} lies outside the image folder: {row['file_name']!r}")


def _check_annotations(content: dict, path: Path) -> None:
    """Every annotation names a known image and category, and has a finite box with sides that are not negative."""
    images = {row["id"] for row in content["images"]}
    categories = {row["id"] for row in content["categories"]}
    for row in content["annotations"]:
        where, box = f"{path}: annotation {row['id']}", row["bbox"]
        if row["image_id"] not in images:
            raise InputError(f"{where} names image {row['image_id']}, which is not listed")
        if row["category_id"] not in categories:
            raise InputError(f"{where} names category {row['category_id']}, which is not listed")
        if len(box) != 4:
            raise InputError(f"{where} has bbox {box!r}, not [x, y, width, height]")
        if not all(_is_number(value) for value in box) or box[2] < 0 or box[3] < 0:
            raise InputError(f"{where} has bbox {box!r}; its values must be finite, its sides not negative")
        if not _is_number(row.get("area", 0)) or row.get("iscrowd", 0) not in (0, 1):
            raise InputError(f"{where} has area {row.get('area')!r} and iscrowd {row.get('iscrowd')!r}")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
