"""CrowdHuman's annotations: an .odgt file holds one JSON dictionary a line, of one photo each."""

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

    boxes, clip: as in `read_odgt`. Raises InputError when neither file is there, or no photos are.
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
    """The photos of an .odgt file; that of a line is `images/ID.jpg`.

    boxes: "full" (`fbox`: the whole person, also what is hidden or beyond the photo), "visible" (`vbox`) or "head"
    (`hbox`). A region to ignore is a box whose `tag` is not "person" ("mask": a crowd, a statue), one with
    `extra.ignore` 1 and, of heads, one with `head_attr.ignore` 1; so has it the benchmark's own program. Boxes beyond
    the photo stay as they are. `clip` cuts them at its edges, and drops what lies outside.

    Left out and counted: lines whose photo is not there, boxes of zero area, rows without the box that is asked for.
    Raises InputError with the file, the line and the ID for what is not as the format has it.
    """
    if boxes not in BOXES:
        raise InputError(f"boxes must be one of {', '.join(BOXES)}, got {boxes!r}")
    split, seen = Split(), set()
    for number, line in enumerate(read_file(path).split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        row = parse_json(line, where, "a photo's dictionary")
        name, rows = _photo(row, where)
        where = f"{where}, ID {quoted(name)}"
        if name in seen:
            raise InputError(f"{where} is there twice")
        seen.add(name)
        marks = [mark for i, gt in enumerate(rows) if (mark := _mark(gt, boxes, f"{where}, gtboxes[{i}]", split))]
        file = images / f"{name}.jpg"
        if file.is_file():
            split.add(file, photo_size(file), marks, clip)
        else:
            split.photos_left_out[NO_IMAGE] += 1
            split.boxes_left_out["of photos " + NO_IMAGE] += len(marks)
    if not seen:
        raise InputError(f"{path} holds no line")
    return split


def _photo(row: object, where: str) -> tuple[str, list]:
    """The ID and the list of gts of a line."""
    if not isinstance(row, dict):
        raise InputError(f"{where} holds a {type(row).__name__}, not a dictionary")
    name, rows = row.get("ID"), row.get("gtboxes")
    if type(name) is not str or Path(name).name != name or not name.isprintable():
        raise InputError(f"{where} has ID {quoted(name)}, which names no file")
    if type(rows) is not list:
        raise InputError(f"{where}, ID {quoted(name)} has no list 'gtboxes'")
    return name, rows


def _mark(gt: object, boxes: str, where: str, split: Split) -> Mark | None:
    """The box of a gt; None, counted, where it has none of the kind."""
    if not isinstance(gt, dict) or type(gt.get("tag")) is not str:
        raise InputError(f"{where} has no 'tag'")
    ignored = gt["tag"] != PERSON or _flag(gt, "extra", where) or (boxes == "head" and _flag(gt, "head_attr", where))
    if BOXES[boxes] not in gt:
        split.boxes_left_out[f"without {BOXES[boxes]}"] += 1
        return None
    values = gt[BOXES[boxes]]
    return Mark(PERSON, require_box(values if type(values) is list else [values], where), ignored)


def _flag(gt: dict, part: str, where: str) -> bool:
    """Whether `part` of a gt says "ignore": 1."""
    inner = gt.get(part, {})
    value = inner.get("ignore", 0) if isinstance(inner, dict) else None
    if type(value) is not int or value not in (0, 1):
        raise InputError(f"{where} has {part} {quoted(inner)}, whose ignore is neither 0 nor 1")
    return value == 1
