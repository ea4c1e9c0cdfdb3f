"""Reading a COCO annotation file; every fault is an InputError of one line with the file, the id and the value."""

import difflib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from otalab.data.images import MOST_PIXELS
from otalab.data.reading import parse_json, read_file, require_folder
from otalab.errors import InputError, one_line, quoted

MOST = 1e9  # px; a larger number is a mistake, and float32 could not tell it from its neighbours

log = logging.getLogger(__name__)


def find_split(folder: str | Path, split: str) -> tuple[Path, Path]:
    """The annotation file and the image folder of a split ("train" or "val").

    It looks for `ROOT/{split}/instances.json` beside `ROOT/{split}/images/`, and for the official layout,
    `ROOT/annotations/instances_{split}2017.json` beside `ROOT/{split}2017/`. For the first, `folder` may be ROOT or
    `ROOT/{split}` itself. Raises InputError, which names what is missing.
    """
    folder = require_folder(folder)
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
    """The COCO dictionary of a file, with `images`, `annotations` and `categories` checked.

    Ids and sizes that are written as 640.0 become integers, and category names lose blanks at their ends. Raises
    InputError for the first fault.
    """
    content = parse_json(read_file(path), path, "a COCO dictionary")
    _check_rows(content, path)
    return content


def choose_categories(content: dict, names: Sequence[str] | None, path: Path) -> tuple[list[str], dict[int | str, int]]:
    """Class names in the order of the category ids, and the label of each id; for all categories, or those in `names`.

    Categories that share a name get their ids added, as in "helmet (0)" and "helmet (1)", with a warning. Raises
    InputError for a name that no category has or that several share, and if no category is left.
    """
    rows = sorted(content["categories"], key=by_id)
    known = _told_apart(rows, path)
    for name in names or ():
        if name not in known:
            twice = [other for row, other in zip(rows, known, strict=True) if row["name"] == name]
            near = twice or difflib.get_close_matches(name, known)
            some = ", ".join(known[:5]) + ", ..." * (len(known) > 5)
            hint = f"did you mean {', '.join(near)}?" if near else f"it has {some or 'none'}"
            raise InputError(f"{path} has {'several categories' if twice else 'no category'} {quoted(name)}; {hint}")
    kept = [i for i, name in enumerate(known) if names is None or name in names]
    if not kept:
        raise InputError(f"{path}: no category is left of {len(known)}")
    return [known[i] for i in kept], {rows[i]["id"]: label for label, i in enumerate(kept)}


def missing_files(folder: Path, names: list[str]) -> list[str]:
    """The names under which there is no file in the folder."""
    return [name for name in names if not os.path.isfile(os.path.join(folder, name))]


def by_id(row: dict) -> tuple[bool, int | str]:
    """A sort key: first numbers in their order, then texts in theirs."""
    return isinstance(row["id"], str), row["id"]


def whole_numbers(rows: list[dict]) -> dict[int | str, int]:
    """An integer for each row's id: the id itself, or 1, 2, ... for all if any id is a text or beyond 2**53.

    Tensors and evaluators hold no texts, and an evaluator that computes in float64 cannot tell larger numbers apart.
    """
    ids = [row["id"] for row in rows]
    if all(isinstance(i, int) and abs(i) <= 2**53 for i in ids):
        return {i: i for i in ids}
    return {i: number for number, i in enumerate(ids, 1)}


def _told_apart(rows: list[dict], path: Path) -> list[str]:
    """A unique name for each category. Raises InputError if the ids do not make the names unique."""
    count = Counter(row["name"] for row in rows)
    names = [f"{row['name']} ({row['id']})" if count[row["name"]] > 1 else row["name"] for row in rows]
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(f"{path} has several categories {quoted(name)}: rename them")
    for name, times in count.items():
        if times > 1:
            ids = " and ".join(quoted(row["id"]) for row in rows if row["name"] == name)
            log.warning(
                "%s: categories %s are all named %s; they stay classes of their own, named with their ids",
                *(one_line(path), ids, quoted(name)),
            )
    return names


def _check_rows(content: dict, path: Path) -> None:
    known = {}  # ids of each part
    for part, (one, keys, fault_of) in _PARTS.items():
        if not isinstance(content.get(part), list):
            raise InputError(f"{path} has no list {part!r}")
        known[one] = ids = set()
        for i, row in enumerate(content[part]):
            fault = _keys_fault(row, keys)
            named = fault is None and "id" in row
            if named and row["id"] in ids:
                fault = "is there twice"
            fault = fault or fault_of(row) or (one == "annotation" and _reference_fault(row, known))
            if fault:
                name = f"{one} {quoted(row['id'])}" if named else f"{part}[{i}]"
                raise InputError(f"{path}: {name} {fault}")
            ids.add(row.get("id"))


# The functions below return what is wrong with a row, or None if nothing is.


def _keys_fault(row: object, keys: tuple[str, ...]) -> str | None:
    if not isinstance(row, dict):
        return "is not a dictionary"
    missing = [repr(key) for key in keys if key not in row]
    if missing:
        return f"has no {', '.join(missing)}"
    for key in ("id", "image_id", "category_id"):
        if key in row and not _is_whole(row, key) and type(row[key]) is not str:
            return f"has {key} {quoted(row[key])}, neither a whole number nor a text"
    return None


def _image_fault(row: dict) -> str | None:
    for side in ("width", "height"):
        if not _is_whole(row, side):
            return f"has {side} {quoted(row[side])}, not a whole number"
    size = f"{quoted(row['width'])} x {quoted(row['height'])} px"
    if row["width"] < 1 or row["height"] < 1:
        return f"is {size}"
    if row["width"] * row["height"] > MOST_PIXELS:
        return f"is {size}; at most {MOST_PIXELS:,} pixels are taken"
    if fault := _text_fault(row, "file_name", allowed="\n\r\t"):
        return fault
    if os.path.isabs(row["file_name"]) or ".." in Path(row["file_name"]).parts:
        return f"lies outside the image folder: {quoted(row['file_name'])}"
    return None


def category_fault(row: dict) -> str | None:
    """What is wrong with a category, None if nothing is; its name loses blanks at its ends."""
    if fault := _text_fault(row, "name"):
        return fault
    row["name"] = row["name"].strip()
    return None if row["name"] else "has an empty name"


def _annotation_fault(row: dict) -> str | None:
    box = row["bbox"]
    if type(box) is not list or len(box) != 4:
        return f"has bbox {quoted(box)}, not [x, y, width, height]"
    if not is_box(box):
        return f"has bbox {quoted(box)}; its values must be finite px, at most {MOST:g}, its sides not negative"
    if not _is_number(row.get("area", 0), MOST**2):
        return f"has area {quoted(row['area'])}, not a finite number"
    for flag in ("iscrowd", "ignore"):
        if row.get(flag, 0) not in (0, 1):  # true and 1.0 are equal to 1
            return f"has {flag} {quoted(row[flag])}, neither 0 nor 1"
    return None


def _reference_fault(row: dict, known: dict[str, set]) -> str | None:
    for one in ("image", "category"):
        wanted = row[f"{one}_id"]
        if wanted not in known[one]:
            alike = next((f", though {quoted(i)} is" for i in known[one] if str(i) == str(wanted)), "")
            return f"names {one} {quoted(wanted)}, which is not listed{alike}"
    return None


def _text_fault(row: dict, key: str, allowed: str = "") -> str | None:
    """Control characters, which would break tables, may be `allowed`; surrogates cannot be written to any file."""
    if type(row[key]) is not str:
        return f"has {key} {quoted(row[key])}, not a text"
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in allowed for c in row[key].strip()):
        return f"has {key} {quoted(row[key])}, which holds a control character or half a character"
    return None


def _is_whole(row: dict, key: str) -> bool:
    """Whether the value is a whole number; one written as 640.0 is replaced by the integer."""
    if type(row[key]) is float and row[key].is_integer():
        row[key] = int(row[key])
    return type(row[key]) is int


def is_box(value: object) -> bool:
    """Whether it is a list [x, y, width, height] of finite px, at most `MOST`, whose sides are not negative."""
    return type(value) is list and len(value) == 4 and all(map(_is_number, value)) and min(value[2:]) >= 0


def _is_number(value: object, most: float = MOST) -> bool:
    return type(value) in (int, float) and abs(value) <= most  # NaN compares false


_PARTS = {  # what a row is called, the keys that it needs, and the function that finds its fault
    "images": ("image", ("id", "file_name", "width", "height"), _image_fault),
    "categories": ("category", ("id", "name"), category_fault),
    "annotations": ("annotation", ("image_id", "category_id", "bbox"), _annotation_fault),
}
