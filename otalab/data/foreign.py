"""Photos and boxes that were read from other formats, written as a COCO-format folder."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from otalab.data.annotations import MOST, category_fault, is_box
from otalab.data.images import read_shrunk
from otalab.data.table import used_line
from otalab.errors import InputError, quoted
from otalab.files import folder_beside
from otalab.progress import progress_bar

Box = tuple[float, float, float, float]  # x, y, width, height, px
NO_AREA, OUTSIDE, NO_IMAGE = "of zero area", "outside their photo", "without an image file"  # why things are left out


class Mark(NamedTuple):
    """A box of a photo."""

    name: str
    """Its class."""
    box: Box
    ignored: bool = False
    """Whether it is a region to ignore."""


class Photo(NamedTuple):
    """An image file with its boxes."""

    file: Path
    size: tuple[int, int]
    """Width and height as stored, px."""
    marks: list[Mark]


@dataclass
class Split:
    """The photos of a split as they are read, and how many photos and boxes are left out for each reason."""

    photos: list[Photo] = field(default_factory=list)
    photos_left_out: Counter[str] = field(default_factory=Counter)
    boxes_left_out: Counter[str] = field(default_factory=Counter)

    def add(self, file: Path, size: tuple[int, int], marks: Iterable[Mark], clip: bool = False) -> None:
        """Add a photo with those of its boxes that have an area; `clip` first cuts them at the photo's edges."""
        kept = []
        for mark in marks:
            box = _cut(mark.box, size) if clip else mark.box
            if box[2] > 0 and box[3] > 0:
                kept.append(mark._replace(box=box))
            else:
                self.boxes_left_out[OUTSIDE if mark.box[2] > 0 and mark.box[3] > 0 else NO_AREA] += 1
        self.photos.append(Photo(file, size, kept))

    def leave_out(self, why: str, marks: Sequence[Mark]) -> None:
        """Count a photo, and its boxes, as left out."""
        self.photos_left_out[why] += 1
        self.boxes_left_out[f"of photos {why}"] += len(marks)

    def account(self) -> list[str]:
        """Two lines of text: how many photos and boxes are used, and how many are left out and why; they add up."""
        marks = [mark for photo in self.photos for mark in photo.marks]
        ignored = sum(mark.ignored for mark in marks)
        more = f", {ignored:,} of them regions to ignore" if ignored else ""
        return [
            used_line("photos", len(self.photos), self.photos_left_out),
            used_line("boxes", len(marks), self.boxes_left_out, more),
        ]


def write_folder(
    folder: str | Path,
    splits: Mapping[str, Split],
    class_names: Sequence[str],
    longest_side: int | None = None,
    progress: bool = True,
) -> Path:
    """Write `folder/SPLIT/instances.json` and `folder/SPLIT/images/` of each split that has a photo; return the folder.

    Categories are numbered 1, 2, ... in the order of `class_names`, and photos in their own order. Image files are hard
    links, which take no room, or copies if the folder is on another disk. With `longest_side`, larger photos are
    shrunk to that many px, with their boxes, and encoded again. The folder is written whole or not at all. Raises
    InputError if the folder already holds something, if no photo is left, if a class name is empty or holds a control
    character, and for an image that cannot be read or written.
    """
    require_new(folder)
    folder = Path(folder)
    if not any(split.photos for split in splits.values()):
        reasons = sum((split.photos_left_out for split in splits.values()), Counter())
        raise InputError(f"no photo is left for {folder}; {used_line('photos', 0, reasons)}")
    for name in class_names:
        if fault := category_fault({"name": name}):
            raise InputError(f"a class {fault}")
    with folder_beside(folder) as partial:
        for name, split in splits.items():
            if split.photos:
                _write_split(partial / name, split.photos, list(class_names), longest_side, progress)
        partial.rename(folder.absolute())
    return folder


def require_new(folder: str | Path) -> None:
    """Raise InputError if the folder exists, unless it is empty."""
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists already; remove it, or choose another folder")


def require_box(value: object, where: str) -> Box:
    """The value as x, y, width, height. Raises InputError if it is not such a list, see `is_box`."""
    if not is_box(value):
        fault = f"needs four finite px, at most {MOST:g}, its sides not negative"
        raise InputError(f"{where} has a box (x, y, width, height) {quoted(value)}; it {fault}")
    return tuple(map(float, value))


def shrunk(size: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Width and height, px, after an image is shrunk to at most `longest_side`; None leaves them as they are."""
    scale = 1.0 if longest_side is None else min(1.0, longest_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def scaled(box: Sequence[float | int], before: tuple[int, int], after: tuple[int, int]) -> list[float]:
    """A box (x, y, width, height) scaled to its resized image, rounded to a hundredth of a px."""
    x, y = after[0] / before[0], after[1] / before[1]
    return [round(value * scale, 2) for value, scale in zip(box, (x, y, x, y), strict=True)]


def _cut(box: Box, size: tuple[int, int]) -> Box:
    x, y = max(0.0, box[0]), max(0.0, box[1])
    return x, y, min(size[0], box[0] + box[2]) - x, min(size[1], box[1] + box[3]) - y


def _write_split(folder: Path, photos: list[Photo], names: list[str], longest_side: int | None, progress: bool) -> None:
    """Write the images, then the annotation file that makes them a data set."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i, photo in enumerate(progress_bar(photos, desc=folder.name, unit="image", disable=not progress), 1):
        width, height = size = shrunk(photo.size, longest_side)
        _place(photo, folder / "images" / photo.file.name, size)
        images.append({"id": i, "file_name": photo.file.name, "width": width, "height": height})
        for mark in photo.marks:
            box = list(mark.box) if size == photo.size else scaled(mark.box, photo.size, size)
            row = {"id": len(annotations) + 1, "image_id": i, "category_id": names.index(mark.name) + 1, "bbox": box}
            annotations.append(row | {"area": box[2] * box[3], "iscrowd": int(mark.ignored)})
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content, allow_nan=False))


def _place(photo: Photo, path: Path, size: tuple[int, int]) -> None:
    """Link to a photo, or copy it if a link is impossible; if its size changes, write it shrunk."""
    if size == photo.size:
        try:
            os.link(photo.file.resolve(), path)
        except OSError:  # another disk, or one without links
            shutil.copyfile(photo.file, path)
        return
    pixels = read_shrunk(photo.file, size)
    try:
        pixels.save(path, quality=90)
    except (ValueError, KeyError) as error:  # a format that Pillow can read but not write
        raise InputError(f"cannot write {photo.file.name} shrunk: {error}") from None
