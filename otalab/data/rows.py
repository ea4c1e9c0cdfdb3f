"""What the rows of a COCO file must hold; every fault is one InputError line with file, id and value."""

import os
import unicodedata
from pathlib import Path

from otalab.data.wording import quoted
from otalab.errors import InputError

MOST_PIXELS = 178_956_970
"""Pixels of the largest image that is taken: 13,377 x 13,377, 0.5 GB as RGB. Pillow refuses those beyond it too."""

_MOST = 1e9  # px; a larger number is a mistake, and float32 could not tell its neighbours apart


def check_rows(content: dict, path: str) -> None:
    """Raise InputError unless the rows of `images`, `annotations` and `categories` are sound; `path` is for messages.

    Whole numbers that are written otherwise (640.0) become integers in place, and names lose blanks at their ends.
    """
    for part, (one, keys, check) in _PARTS.items():
        if not isinstance(content.get(part), list):
            raise InputError(f"{path} has no list {part!r}")
        seen = set()
        for i, row in enumerate(content[part]):
            if fault := _keys_fault(row, keys):
                raise InputError(f"{path}: {part}[{i}] {fault}")
            if "id" in row and row["id"] in seen:
                raise InputError(f"{path}: {part} has id {quoted(row['id'])} twice")
            seen.add(row.get("id"))
            if fault := check(row):
                name = f"{one} {quoted(row['id'])}" if "id" in row else f"{part}[{i}]"
                raise InputError(f"{path}: {name} {fault}")
    _check_references(content, path)


def by_id(row: dict) -> tuple[bool, int | str]:
    """A sorting key: numbers in their order, then texts in theirs."""
    return isinstance(row["id"], str), row["id"]


def is_ignored(row: dict) -> bool:
    """Whether an annotation is a region to ignore: COCO's `iscrowd`, or `ignore` as other converters write it."""
    return bool(row.get("iscrowd", 0)) or bool(row.get("ignore", 0))


def whole_numbers(rows: list[dict]) -> dict[int | str, int]:
    """An integer for each row's id: itself, unless an id of the list is a text or beyond 2**53; then 1, 2, ... for all.

    Tensors and evaluators hold no texts, and an evaluator that counts in float64 tells no larger numbers apart.
    """
    ids = [row["id"] for row in rows]
    if all(isinstance(i, int) and abs(i) <= 2**53 for i in ids):
        return {i: i for i in ids}
    return {i: number for number, i in enumerate(ids, 1)}


def _keys_fault(row: object, keys: tuple[str, ...]) -> str | None:
    """What is wrong with a row's keys or ids; None if nothing is."""
    if not isinstance(row, dict):
        return "is not a dictionary"
    missing = [repr(key) for key in keys if key not in row]
    if missing:
        return f"has no {', '.join(missing)}"
    for key in ("id", "image_id", "category_id"):
        value = row.get(key, 0)
        if type(value) is float and value.is_integer():
            row[key] = int(value)
        elif type(value) not in (int, str):
            return f"has {key} {quoted(value)}, neither a whole number nor a text"
    return None


def _image_fault(row: dict) -> str | None:
    for side in ("width", "height"):
        value = row[side]
        if type(value) is float and value.is_integer():
            row[side] = int(value)
        elif type(value) is not int:
            return f"has {side} {quoted(value)}, not a whole number"
    size = f"{quoted(row['width'])} x {quoted(row['height'])} px"
    if row["width"] < 1 or row["height"] < 1:
        return f"is {size}"
    if row["width"] * row["height"] > MOST_PIXELS:
        return f"is {size}; at most {MOST_PIXELS:,} pixels are taken"
    if fault := _text_fault("file_name", row["file_name"], allowed="\n\r\t"):
        return fault
    if os.path.isabs(row["file_name"]) or ".." in Path(row["file_name"]).parts:
        return f"lies outside the image folder: {quoted(row['file_name'])}"
    return None


def _category_fault(row: dict) -> str | None:
    if fault := _text_fault("name", row["name"]):
        return fault
    row["name"] = row["name"].strip()
    return None if row["name"] else "has an empty name"


def _text_fault(key: str, value: object, allowed: str = "") -> str | None:
    """Surrogates cannot be written to any file, and control characters would break tables."""
    if type(value) is not str:
        return f"has {key} {quoted(value)}, not a text"
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in allowed for c in value.strip()):
        return f"has {key} {quoted(value)}, which holds a control character or half a character"
    return None


def _annotation_fault(row: dict) -> str | None:
    """A finite box with sides that are not negative, an area that is a number, and flags that are 0 or 1."""
    box = row["bbox"]
    if type(box) is not list or len(box) != 4:
        return f"has bbox {quoted(box)}, not [x, y, width, height]"
    if not all(_is_number(value) for value in box) or box[2] < 0 or box[3] < 0:
        return f"has bbox {quoted(box)}; its values must be finite px, at most {_MOST:g}, its sides not negative"
    if not _is_number(row.get("area", 0), _MOST**2):
        return f"has area {quoted(row['area'])}, not a finite number"
    for flag in ("iscrowd", "ignore"):
        if row.get(flag, 0) not in (0, 1):  # true and 1.0 are equal to 1
            return f"has {flag} {quoted(row[flag])}, neither 0 nor 1"
    return None


def _check_references(content: dict, path: str) -> None:
    """Every annotation names a known image and category."""
    for part, key, word in (("images", "image_id", "image"), ("categories", "category_id", "category")):
        known = {row["id"] for row in content[part]}
        for i, row in enumerate(content["annotations"]):
            if row[key] not in known:
                name = f"annotation {quoted(row['id'])}" if "id" in row else f"annotations[{i}]"
                alike = next((other for other in known if str(other) == str(row[key])), None)
                hint = "" if alike is None else f", though {quoted(alike)} is"
                raise InputError(f"{path}: {name} names {word} {quoted(row[key])}, which is not listed{hint}")


def _is_number(value: object, most: float = _MOST) -> bool:
    return type(value) in (int, float) and abs(value) <= most  # NaN compares false


_PARTS = {  # what one row is called, the keys that it needs, and what finds its fault
    "images": ("image", ("id", "file_name", "width", "height"), _image_fault),
    "annotations": ("annotation", ("image_id", "category_id", "bbox"), _annotation_fault),
    "categories": ("category", ("id", "name"), _category_fault),
}
