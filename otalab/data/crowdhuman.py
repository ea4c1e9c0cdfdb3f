"""CrowdHuman's annotations: each line of an .odgt file is a JSON dictionary for one photo."""

from pathlib import Path

from otalab.data.foreign import NO_IMAGE, Mark, Split, require_box
from otalab.data.images import photo_size
from otalab.data.reading import parse_json, read_file, require_folder
from otalab.errors import InputError, quoted

BOXES = {"full": "fbox", "visible": "vbox", "head": "hbox"}
PERSON = "person"
SPLITS = ("train", "val")


def read_crowdhuman(folder: str | Path, boxes: str = "full", clip: bool = False) -> dict[str, Split]:
    """The splits of a folder with `annotation_train.odgt` or `annotation_val.odgt`, or both, and photos in `Images/`.

    boxes, clip: as in `read_odgt`

    Raises InputError if neither file is there, or no folder `Images/`, and as `read_odgt` does.
    """
    folder = require_folder(folder)
    files = {split: folder / f"annotation_{split}.odgt" for split in SPLITS}
    there = {split: file for split, file in files.items() if file.is_file()}
    if not there:
        raise InputError(f"{folder} has neither {' nor '.join(file.name for file in files.values())}")
    if not (folder / "Images").is_dir():
        raise InputError(f"no folder {folder / 'Images'}, into which CrowdHuman's archives unpack")
    return {split: read_odgt(file, folder / "Images", boxes, clip) for split, file in there.items()}


def read_odgt(path: Path, images: Path, boxes: str = "full", clip: bool = False) -> Split:
    """The photos of an .odgt file; the photo of a line is `images/ID.jpg`.

    boxes: which box of a person to read: "full" (`fbox`: the whole person, including what is hidden or beyond the
           photo), "visible" (`vbox`) or "head" (`hbox`)
    clip:  whether to cut boxes at the edges of the photo and to drop boxes outside it; otherwise they stay as they are

    A box is a region to ignore if its `tag` is not "person" ("mask": a crowd, a statue) or its `extra.ignore` is 1. A
    head is also ignored if its `head_attr.ignore` is 1. The benchmark's own program does the same.

    Left out and counted are lines without a photo, boxes of zero area, and rows without the kind of box that is asked
    for. Raises InputError with the file, the line and the ID if a line does not follow the format.
    """
    if boxes not in BOXES:
        raise InputError(f"boxes must be one of {', '.join(BOXES)}, got {boxes!r}")
    split, seen = Split(), set()
    for number, line in enumerate(read_file(path).split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        name, rows = _photo(parse_json(line, where, "a photo's dictionary"), where)
        where = f"{where}, ID {quoted(name)}"
        if name in seen:
            raise InputError(f"{where} is there twice")
        seen.add(name)
        marks = [mark for i, gt in enumerate(rows) if (mark := _mark(gt, boxes, f"{where}, gtboxes[{i}]", split))]
        file = images / f"{name}.jpg"
        if file.is_file():
            split.add(file, photo_size(file), marks, clip)
        else:
            split.leave_out(NO_IMAGE, marks)
    if not seen:
        raise InputError(f"{path} holds no line")
    return split


def _photo(row: dict, where: str) -> tuple[str, list]:
    """The ID and the list of gts in a line's dictionary."""
    name, rows = row.get("ID"), row.get("gtboxes")
    if type(name) is not str or Path(name).name != name or not name.isprintable():
        raise InputError(f"{where} has ID {quoted(name)}, which names no file")
    if type(rows) is not list:
        raise InputError(f"{where}, ID {quoted(name)} has no list 'gtboxes'")
    return name, rows


def _mark(gt: object, boxes: str, where: str, split: Split) -> Mark | None:
    """The box of a gt; None if it has no box of this kind, which `split` then counts."""
    if not isinstance(gt, dict) or type(gt.get("tag")) is not str:
        raise InputError(f"{where} has no 'tag'")
    ignored = gt["tag"] != PERSON or _flag(gt, "extra", where) or (boxes == "head" and _flag(gt, "head_attr", where))
    if BOXES[boxes] not in gt:
        split.boxes_left_out[f"without {BOXES[boxes]}"] += 1
        return None
    return Mark(PERSON, require_box(gt[BOXES[boxes]], where), ignored)


def _flag(gt: dict, part: str, where: str) -> bool:
    """Whether the dictionary `part` of a gt has "ignore": 1."""
    inner = gt.get(part, {})
    value = inner.get("ignore", 0) if isinstance(inner, dict) else None
    if type(value) is not int or value not in (0, 1):
        raise InputError(f"{where} has {part} {quoted(inner)}, whose ignore is neither 0 nor 1")
    return value == 1
