"""Folders in PASCAL VOC's layout: one XML file per photo."""

import logging
import math
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from otalab.data.find_images import by_stem, looks_like_image
from otalab.data.foreign import NO_IMAGE, Mark, Split, require_box
from otalab.data.images import photo_size
from otalab.data.reading import read_file, read_text, require_folder
from otalab.data.sample import by_lot
from otalab.errors import InputError, one_line, quoted

SPLITS = ("train", "val", "test")
_LISTS = Path("ImageSets") / "Main"

log = logging.getLogger(__name__)


def read_voc(folder: str | Path, one_based: bool = False, seed: int = 0) -> tuple[dict[str, Split], list[str]]:
    """The splits of a folder, and its classes, sorted by name.

    XML files lie in `Annotations/` and photos of the same names in `JPEGImages/`. If one of these is missing, `folder`
    itself takes its place. The lists `ImageSets/Main/{train,val,test}.txt` say which file belongs to which split.
    Without any list, a fifth of the files, drawn by the seed, is "val" and the rest "train".

    An `object` whose `difficult` is not 0 is a region to ignore. With `one_based`, pixels are counted from 1 and a box
    includes its last ones, xmax and ymax, as in VOC's own sets. Otherwise xmin and xmax are the edges of the box, as
    most programs write it.

    Left out and counted are names without an XML file or a photo, photos of another size than their XML says, and boxes
    of zero area. Warnings count XML files that are in no list, and photos without an XML file. Any other fault raises
    InputError, which names the file.
    """
    folder = require_folder(folder)
    parts = [folder / name if (folder / name).is_dir() else folder for name in ("Annotations", "JPEGImages")]
    files = by_stem(parts[0], lambda path: path.suffix.lower() == ".xml", "XML files")
    images = by_stem(parts[1], looks_like_image, "photos")
    if not files:
        raise InputError(f"no XML file in {parts[0]}")
    if bare := len(images.keys() - files.keys()):
        log.warning("%s: %d photos have no XML file, and are left out", one_line(parts[1]), bare)
    splits, names = {}, set()
    for name, members in _members(folder, sorted(files), seed).items():
        splits[name] = split = Split()
        for member in members:
            if member not in files:
                split.leave_out("without an XML file", [])
                continue
            size, marks = read_voc_file(files[member], one_based)
            names.update(mark.name for mark in marks)
            if member not in images:
                split.leave_out(NO_IMAGE, marks)
            elif size not in (stored := photo_size(images[member]), (0, 0)):
                split.leave_out("of another size than their XML says", marks)
            else:
                split.add(images[member], stored, marks)
    return splits, sorted(names)


def read_voc_file(path: Path, one_based: bool = False) -> tuple[tuple[int, int], list[Mark]]:
    """Width and height stated in an XML file (0 if missing), and its boxes. Raises InputError as `read_voc` does."""
    root = parse_xml(path)
    if root.tag != "annotation":
        raise InputError(f"{path} holds <{one_line(root.tag, 40)}>, not VOC's <annotation>")
    size = tuple(int(_number(root, f"size/{side}", path, missing="0")) for side in ("width", "height"))
    first = 1 if one_based else 0
    marks = []
    for i, item in enumerate(root.findall("object")):
        where = f"{path}, object {i + 1}"
        name = (item.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where} has no name")
        x1, y1, x2, y2 = (_number(item, f"bndbox/{key}", where) for key in ("xmin", "ymin", "xmax", "ymax"))
        box = require_box([x1 - first, y1 - first, x2 - x1 + first, y2 - y1 + first], where)
        marks.append(Mark(name, box, _number(item, "difficult", where, missing="0") != 0))
    return size, marks


def parse_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. Raises InputError for a document type, before any entity in it is expanded."""
    data, parser = read_file(path), ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(data)
        return parser.close()
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # not XML, or an unknown encoding
        raise InputError(f"{path} is not XML: {error}") from None


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_) -> None:
        raise InputError("declares a document type, which may hold entities; remove it")


def _members(folder: Path, names: list[str], seed: int) -> dict[str, list[str]]:
    """The names of each split."""
    lists = {split: folder / _LISTS / f"{split}.txt" for split in SPLITS}
    members = {split: _listed(path) for split, path in lists.items() if path.is_file()}
    if not members:
        order = by_lot(names, seed)
        few = len(names) // 5
        return {"train": sorted(order[few:]), "val": sorted(order[:few])}
    times = Counter(name for listed in members.values() for name in listed)
    if twice := [name for name, count in times.items() if count > 1]:
        raise InputError(f"{folder / _LISTS} lists {quoted(twice[0])} twice; it has to be in one split, once")
    if other := len(set(names) - set(times)):
        log.warning("%s: left out: %d XML files that no list of %s names", one_line(folder), other, _LISTS)
    return members


def _listed(path: Path) -> list[str]:
    """The first word of each line; in the list of a single class, 1 or -1 follows it."""
    return [line.split()[0] for line in read_text(path).splitlines() if line.strip()]


def _number(item: ElementTree.Element, path: str, where: object, missing: str | None = None) -> float:
    """The finite number in an element's text, or in `missing` if there is no such element; otherwise an InputError."""
    text = item.findtext(path, missing)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where} has {path} {quoted(text)}, not a number")
    return value
