"""Reading COCO annotation files and the images they name; every fault is one InputError line with file and id."""

import difflib
import json
import logging
import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, ImageOps

from otalab.data.rows import MOST_PIXELS, by_id, check_rows
from otalab.data.wording import quoted, shown
from otalab.errors import InputError

_GREY16 = np.round(np.arange(65536) / 257).astype(np.uint8)  # 16-bit grey to 8 bits: 65535 is white

log = logging.getLogger(__name__)


def find_split(folder: str | Path, split: str) -> tuple[Path, Path]:
    """The annotation file and the image folder of a split ("train" or "val").

    Knows `ROOT/{split}/instances.json` beside `ROOT/{split}/images/`, that `ROOT/{split}` itself, and the official
    `ROOT/annotations/instances_{split}2017.json` beside `ROOT/{split}2017/`. Raises InputError naming what is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder {shown(folder)}")
    layouts = [
        (folder / split / "instances.json", folder / split / "images"),
        (folder / "annotations" / f"instances_{split}2017.json", folder / f"{split}2017"),
    ]
    if folder.resolve().name == split:
        layouts.append((folder / "instances.json", folder / "images"))
    for annotations, images in layouts:
        if annotations.is_file():
            if not images.is_dir():
                raise InputError(f"{shown(annotations)} has no image folder {shown(images)}")
            return annotations, images
    raise InputError(f"no {split} split in {shown(folder)}: looked for {' and '.join(shown(a) for a, _ in layouts)}")


def read_annotations(path: Path) -> dict:
    """The COCO dictionary of a file: `images`, `annotations` and `categories`, sound as `check_rows` has it."""
    name = shown(path)
    try:
        require_file(path)
        data = path.read_bytes()
        content = json.loads(data, object_pairs_hook=_without_repeats)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None
    except json.JSONDecodeError as error:
        kind = "empty" if not data.strip() else f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InputError(f"{name} is {kind}") from None
    except UnicodeDecodeError as error:
        kind = "compressed, unpack it first" if data[:2] == b"\x1f\x8b" else f"{error.reason} at byte {error.start}"
        raise InputError(f"{name} is not JSON: {kind}") from None
    except RecursionError:
        raise InputError(f"{name} is not a COCO dictionary: its brackets are nested too deep") from None
    except MemoryError:
        raise InputError(f"{name} is too large for the memory at hand") from None
    except ValueError as error:  # a key given twice, a number of thousands of digits
        raise InputError(f"{name}: {shown(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{name} holds a {type(content).__name__}, not a COCO dictionary")
    check_rows(content, name)
    return content


def choose_categories(content: dict, names: Sequence[str] | None, path: Path) -> tuple[list[str], dict[int | str, int]]:
    """Class names in the order of the category ids, and the label of each id; all of them, or those named.

    Categories of one name are told apart by their ids, as "helmet (0)" and "helmet (1)", with a warning.
    """
    rows = sorted(content["categories"], key=by_id)
    known = _told_apart(rows, path)
    for name in names or ():
        if name not in known:
            twice = [other for row, other in zip(rows, known, strict=True) if row["name"] == name]
            near = twice or difflib.get_close_matches(name, known)
            hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known[:5])}, ..."
            fault = "has several categories" if twice else "has no category"
            raise InputError(f"{shown(path)} {fault} {quoted(name)}; {shown(hint)}")
    kept = [i for i, name in enumerate(known) if names is None or name in names]
    if not kept:
        raise InputError(f"{shown(path)}: no category is left of {len(known)}")
    return [known[i] for i in kept], {rows[i]["id"]: label for label, i in enumerate(kept)}


def choose_images(rows: list[dict], max_images: int | None, seed: int) -> list[dict]:
    """The image rows in the order of their ids; at most `max_images`, a smaller choice being part of a larger one."""
    if max_images is not None and max_images < 1:
        raise InputError(f"max_images must be at least 1, got {max_images}")
    return choose(sorted(rows, key=by_id), max_images, seed)


def choose(items: Sequence, most: int | None, seed: int) -> list:
    """At most so many of the items, in their order; a smaller choice is part of a larger one."""
    if most is None or most >= len(items):
        return list(items)
    order = np.random.default_rng(seed).permutation(len(items))[:most]
    return [items[i] for i in sorted(order)]


def check_files(folder: Path, names: list[str]) -> None:
    """Raise InputError unless every image is there; each folder is listed once, not each file asked for."""
    plain = [os.path.normpath(name) for name in names]
    parents = {os.path.dirname(name) for name in plain}
    try:
        there = {os.path.join(parent, entry.name) for parent in parents for entry in os.scandir(folder / parent)}
    except OSError as error:
        raise InputError(f"cannot list image folder {shown(error.filename)}: {error.strerror}") from None
    missing = [name for name, path in zip(names, plain, strict=True) if path not in there]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(names)} images are missing in {shown(folder)}, the first is {shown(missing[0])}"
        )


def read_image(path: Path, upright: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """The file's pixels as RGB: the first frame; grey of 16 bits scaled from 0..65535; transparency left out.

    They lie as they are stored, since COCO's boxes refer to them so; `upright=True` turns them as EXIF asks, the way a
    viewer shows the photo. Raises InputError for what is no regular file or no whole image, for more than `MOST_PIXELS`
    pixels, and for 32-bit and float pixels, whose range is not defined.
    """
    try:
        with open_image(path) as image:
            image.verify()  # the checksums of a PNG, which decoding passes over
        with open_image(path) as image:
            _require_range(image)
            return _as_rgb(ImageOps.exif_transpose(image) if upright and orientation(image) != 1 else image)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"cannot read image {shown(path)}: it needs more memory than there is") from None
    except Exception as error:  # Pillow's readers raise whatever the damage leads them to
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot read image {shown(path)}: {shown(what)}") from None


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The image, not yet decoded. Pillow's warnings are kept back: of large images, and of metadata we do not read."""
    require_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            yield image


def orientation(image: Image.Image) -> int:
    """How EXIF asks to turn the image, 1..8; 1, not at all, where it says nothing or is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's reader raises whatever the damage leads it to
        return 1
    return value if value in range(1, 9) else 1


def require_file(path: Path) -> None:
    """Raise InputError for a pipe or a device, which could keep a reader waiting for ever; OSError if there is none."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise InputError(f"{shown(path)} is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"a dictionary has the key {quoted(key)} twice")
    return found


def _told_apart(rows: list[dict], path: Path) -> list[str]:
    """A name for each category that no other has."""
    count = Counter(row["name"] for row in rows)
    names = [f"{row['name']} ({row['id']})" if count[row["name"]] > 1 else row["name"] for row in rows]
    if len(set(names)) < len(names):
        name = next(name for name, times in Counter(names).items() if times > 1)
        raise InputError(f"{shown(path)} has several categories {quoted(name)}: rename them")
    for name, times in count.items():
        if times > 1:
            ids = " and ".join(quoted(row["id"]) for row in rows if row["name"] == name)
            log.warning(
                "%s: categories %s are all named %s; they stay classes of their own, named with their ids",
                *(shown(path), ids, quoted(name)),
            )
    return names


def _require_range(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} px; at most {MOST_PIXELS:,} pixels are taken")
    whole = image.mode == "I" and image.format in ("PNG", "PPM")  # 16 bits, which Pillow hands over as 32
    if image.mode in ("I", "F") and not whole:
        kind = "floats" if image.mode == "F" else "signed or 32-bit numbers"
        raise ValueError(f"its pixels are {kind}, which have no defined range; save it with 8 or 16 bits")


def _as_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        grey = _GREY16[np.asarray(image).clip(0, 65535)]
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.array(ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB"))
    if image.mode in ("La", "PA", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # no copy of a large photo
