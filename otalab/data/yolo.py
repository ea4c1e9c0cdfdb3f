"""Folders in YOLO's layout: one text file per photo, one line per box."""

import logging
from collections.abc import Sequence
from pathlib import Path

import yaml

from otalab.data.find_images import by_stem, looks_like_image
from otalab.data.foreign import Mark, Split, require_box
from otalab.data.images import is_turned, photo_size
from otalab.data.reading import read_text, require_folder
from otalab.errors import InputError, one_line, quoted

SPLITS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
NAMES = ("data.yaml", "classes.txt", "obj.names")  # files that may hold the classes, in this order
_SLACK = 0.01  # share of the photo's side by which a box may exceed it; more cannot be rounding

log = logging.getLogger(__name__)


def read_yolo(folder: str | Path, names: str | Path | None = None) -> tuple[dict[str, Split], list[str]]:
    """The splits of a folder, and its classes.

    Photos lie in `images/SPLIT/` and text files of the same names in `labels/SPLIT/`, or in `SPLIT/images/` and
    `SPLIT/labels/`, where SPLIT is train, val (also valid) or test. A line is "class x y width height": the class is a
    number from 0, and the box's centre and sides are shares of the photo's sides. A photo without a text file has no
    box.

    names: a text file with one class per line, or a YAML file with `names`; None: the first of `NAMES` in the folder

    Left out and counted are text files without a photo and boxes of zero area. A warning counts photos that EXIF turns
    by a quarter. Any other fault raises InputError with the file and, where there is one, the line.
    """
    folder = require_folder(folder)
    classes = read_names(Path(names) if names else _names_file(folder))
    splits = {}
    for split, spellings in SPLITS.items():
        pairs = [(folder / "images" / s, folder / "labels" / s) for s in spellings]
        pairs += [(folder / s / "images", folder / s / "labels") for s in spellings]
        found = [(images, labels) for images, labels in pairs if images.is_dir()]
        if len(found) > 1:
            raise InputError(f"{folder} has two folders of one split: {found[0][0]} and {found[1][0]}")
        for images, labels in found:
            splits[split] = _read_split(images, labels, classes)
    if not splits:
        raise InputError(f"{folder} has neither images/train nor train/images, and no other split")
    return splits, classes


def read_names(path: Path) -> list[str]:
    """The classes in a text file, one per line, or in `names` of a YAML file, a list or a dictionary numbered from 0.

    Raises InputError if the file holds no such names, or a name twice.
    """
    text = read_text(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        names = _yaml_names(text, path)
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path} names {'a class twice' if names else 'no class'}")
    return names


def _yaml_names(text: str, path: Path) -> list[str]:
    try:
        content = yaml.load(text, yaml.BaseLoader)  # keeps all values as texts: a class may be called "no" or 1
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is not YAML: {one_line(str(error))}") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if set(names) != set(numbers):
            raise InputError(f"{path} numbers its names otherwise than 0, 1, 2, ...")
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} has no list 'names' of classes")
    return [name.strip() for name in names]


def _names_file(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} has none of {', '.join(NAMES)}; name a file with the classes, one a line (--names)")


def _read_split(images: Path, labels: Path, classes: Sequence[str]) -> Split:
    split = Split()
    photos = by_stem(images, looks_like_image, "photos")
    for name, path in photos.items():
        text = labels / f"{name}.txt"
        size = photo_size(path)
        split.add(path, size, read_yolo_file(text, size, classes) if text.is_file() else [])
    if turned := sum(map(is_turned, photos.values())):
        log.warning(
            "%s: EXIF turns %d photos by a quarter; boxes are taken to refer to them as stored, so see that they fit "
            "(otalab data show)",
            *(one_line(images), turned),
        )
    if labels.is_dir():
        texts = [path for path in labels.glob("*.txt") if path.name not in NAMES]  # some tools write classes.txt there
        if alone := sum(path.stem not in photos for path in texts):
            split.photos_left_out["that have a text file alone"] += alone
    return split


def read_yolo_file(path: Path, size: tuple[int, int], classes: Sequence[str]) -> list[Mark]:
    """The boxes of a text file, for a photo of `size` (width, height) px. Raises InputError as `read_yolo` does."""
    marks = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where, words = f"{path} line {number}", line.split()
        try:
            label, (x, y, width, height) = int(words[0]), map(float, words[1:])
        except (ValueError, IndexError):
            raise InputError(f"{where} is {quoted(line)}, not 'class x y width height' in numbers") from None
        if not 0 <= label < len(classes):
            raise InputError(f"{where} has class {label}, but there are {len(classes)}, counted from 0")
        sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        if not all(-_SLACK <= side <= 1 + _SLACK for side in sides):  # NaN compares false
            raise InputError(f"{where} has a box that lies outside its photo: {quoted(line)}; 1 is the whole side")
        box = [sides[0] * size[0], sides[1] * size[1], width * size[0], height * size[1]]
        marks.append(Mark(classes[label], require_box(box, where)))
    return marks
