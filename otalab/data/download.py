"""Downloads that resume, are checked and appear whole; COCO 2017, all of a split or a few of its images."""

import hashlib
import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from PIL import Image

from otalab.data.annotations import check_files, choose_images, open_image, read_annotations, read_image
from otalab.data.archive import require_room, safe_extract
from otalab.data.wording import quoted, shown
from otalab.errors import InputError
from otalab.files import sweep, write_whole
from otalab.progress import progress_bar

__all__ = ["COCO_MD5", "COCO_URLS", "fetch", "fetch_coco", "safe_extract"]

COCO_URLS = {
    "train": "http://images.cocodataset.org/zips/train2017.zip",
    "val": "http://images.cocodataset.org/zips/val2017.zip",
    "annotations": "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
}
COCO_MD5 = {
    "train": "cced6f7f71b7629ddf16f17bbcfab6b2",
    "val": "442b8da7639aecaf257c1dceb8ba8c80",
    "annotations": "f4bbac642086de4f52a3fdda2de5fa2c",
}

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 30  # seconds without a byte
_PASSING = (429, 500, 502, 503, 504)  # HTTP statuses worth another attempt


def fetch(
    url: str,
    path: str | Path,
    sha256: str | None = None,
    md5: str | None = None,
    progress: bool = True,
    attempts: int = 3,
) -> Path:
    """Download `url` (http or https) to `path`; return the path.

    A file already there is kept if it has the checksum, or if none is given. Bytes arrive in `path` + ".part", which
    the next attempt or call continues where the server can and its file has not changed; complete and checked, they
    are renamed to `path`. Raises InputError with the URL and the HTTP status, or the bytes received, or the checksums.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise InputError(f"cannot fetch {shown(url)}: not an http or https address")
    if path.exists() and _checksum_fault(path, sha256, md5) is None:
        return path
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, attempts + 1):
            if (fault := _receive(url, part, progress)) is None:
                break
            if attempt == attempts:
                raise InputError(f"cannot fetch {shown(url)}: {shown(fault)}")
            time.sleep(attempt)
        _tag(part).unlink(missing_ok=True)
        if fault := _checksum_fault(part, sha256, md5):
            part.unlink()
            raise InputError(f"{url} arrived damaged: {fault}")
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def fetch_coco(
    folder: str | Path,
    split: str = "val",
    max_images: int | None = None,
    longest_side: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Fetch a split of COCO 2017 into `folder`; return the folder. What is already there is not fetched again.

    All of it: the official layout, `annotations/instances_{split}2017.json` beside `{split}2017/` (val 0.8 GB, train
    19 GB, annotations 0.25 GB). With `max_images`: that many images chosen by `seed`, one by one, as
    `{split}/instances.json` beside `{split}/images/`; `longest_side` shrinks them and their boxes to that many px.
    """
    folder = Path(folder)
    if split not in ("train", "val"):
        raise InputError(f"split must be train or val, got {split!r}")
    if longest_side is not None and (max_images is None or longest_side < 1):
        raise InputError(f"longest_side {longest_side} must be at least 1 px and go with max_images")
    annotations = folder / "annotations" / f"instances_{split}2017.json"
    if not annotations.is_file() or _held("annotations", folder).exists():
        _fetch_archive("annotations", folder, progress, choose=lambda name: "/instances_" in name)
    content = read_annotations(annotations)
    if max_images is not None:
        _fetch_subset(content, folder / split, max_images, longest_side, seed, progress)
        return folder
    names = [row["file_name"] for row in content["images"]]
    if not _held(split, folder).exists():
        with suppress(InputError):
            check_files(folder / f"{split}2017", names)
            return folder
    _fetch_archive(split, folder, progress)
    check_files(folder / f"{split}2017", names)
    return folder


def _fetch_archive(name: str, folder: Path, progress: bool, choose: Callable[[str], bool] | None = None) -> None:
    """Fetch one of COCO's archives, extract it, remove it."""
    held = _held(name, folder)
    if not held.exists():
        fetch(COCO_URLS[name], folder / held.name[1:], md5=COCO_MD5[name], progress=progress).replace(held)
    safe_extract(held, folder, choose=choose, progress=progress)
    held.unlink()


def _held(name: str, folder: Path) -> Path:
    """Where an archive lies while it is extracted: still there, it says that a process was killed meanwhile."""
    return folder / f".{COCO_URLS[name].rpartition('/')[2]}"


def _fetch_subset(content: dict, folder: Path, count: int, longest_side: int | None, seed: int, progress: bool) -> None:
    """Fetch the chosen images one by one, then write the annotation file that makes them a data set."""
    for place in (folder, folder / "images"):
        sweep(place)
    rows = choose_images(content["images"], count, seed)
    images = [{**row, **_shrunk(row, longest_side)} for row in rows]
    with ThreadPoolExecutor(8) as pool:
        work = pool.map(partial(_fetch_image, folder / "images"), images)
        list(progress_bar(work, desc=f"{folder.name} images", total=len(images), unit="image", disable=not progress))
    scale = {
        row["id"]: (image["width"] / row["width"], image["height"] / row["height"])
        for row, image in zip(rows, images, strict=True)
    }
    annotations = [_scaled(row, *scale[row["image_id"]]) for row in content["annotations"] if row["image_id"] in scale]
    with write_whole(folder / "instances.json") as path:
        path.write_text(json.dumps({**content, "images": images, "annotations": annotations}))


def _shrunk(row: dict, longest_side: int | None) -> dict[str, int]:
    """Width and height, px, of an image whose longest side is limited."""
    scale = min(1.0, (longest_side or math.inf) / max(row["width"], row["height"]))
    return {side: max(1, round(row[side] * scale)) for side in ("width", "height")}


def _scaled(row: dict, x: float, y: float) -> dict:
    """An annotation of an image scaled by `x` and `y`, without its segmentation."""
    left, top, wide, high = row["bbox"]
    box = [round(left * x, 2), round(top * y, 2), round(wide * x, 2), round(high * y, 2)]
    rest = {key: value for key, value in row.items() if key != "segmentation"}
    return {**rest, "bbox": box, "area": row.get("area", wide * high) * x * y}


def _fetch_image(folder: Path, image: dict) -> None:
    """Fetch an image by its `coco_url`, shrunk to the width and height of its row where these are smaller."""
    path, size = folder / image["file_name"], (image["width"], image["height"])
    fetched = path.with_name(f"{path.name}.original")
    if path.exists() and _size(path) == size:
        fetched.unlink(missing_ok=True)  # left by a process killed between the two
        return
    url = image.get("coco_url")
    if not isinstance(url, str):
        raise InputError(f"image {quoted(image['id'])} has coco_url {quoted(url)}, no address to fetch it from")
    path.unlink(missing_ok=True)
    original = fetch(url, fetched, progress=False)
    if _size(original) == size:
        original.replace(path)
        return
    pixels = Image.fromarray(read_image(original)).resize(size, Image.Resampling.LANCZOS)
    try:
        with write_whole(path) as part:
            pixels.save(part, quality=90)
    except (ValueError, KeyError) as error:  # Pillow does not know the file's ending
        raise InputError(f"cannot write {shown(path)}: {shown(error)}") from None
    original.unlink()


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with open_image(path) as image:
            return image.size
    except Exception:  # Pillow's readers raise whatever the damage leads them to
        return None


def _receive(url: str, part: Path, progress: bool) -> str | None:
    """Append what is missing to `part`; return what cut it short, None when complete."""
    have = part.stat().st_size if part.exists() else 0
    tag = _tag(part).read_text(errors="replace") if have and _tag(part).exists() else ""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "otalab"})
    except ValueError as error:
        raise InputError(f"cannot fetch {shown(url)}: {shown(error)}") from None
    if (
        tag.isascii() and tag.isprintable() and tag
    ):  # without one, the bytes on disk may belong to another version of the file
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return None  # nothing was missing
        if error.code == 416:
            part.unlink()
        elif error.code not in _PASSING:
            raise InputError(f"cannot fetch {shown(url)}: HTTP {error.code} {shown(error.reason)}") from None
        return f"HTTP {error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error))
    except ValueError as error:  # an address that is none, as http://[ or one with letters no host name has
        raise InputError(f"cannot fetch {shown(url)}: {shown(error)}") from None
    with response:
        start = have if response.status == 206 else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            return "the server sent another range than asked"
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None
        if total is not None:
            require_room(url, total - start, part.parent)
        with part.open("ab" if start else "wb") as file:
            _tag(part).write_text(
                _strong_tag(response.headers)
            )  # after the truncation, so that the two belong together
            return _copy(response, file, start, total, part.stem if progress else None)


def _copy(
    response: http.client.HTTPResponse, file: IO[bytes], done: int, total: int | None, title: str | None
) -> str | None:
    """Copy the body to the file; return what cut it short, None when complete."""
    with progress_bar(desc=title, total=total, initial=done, unit="B", unit_scale=True, disable=title is None) as bar:
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                return f"{error or type(error).__name__} after {done} of {total or 'unknown'} bytes"
            if not chunk:
                break
            file.write(chunk)
            bar.update(len(chunk))
            done += len(chunk)
    return f"ended after {done} of {total} bytes" if total is not None and done < total else None


def _tag(part: Path) -> Path:
    """Where the tag of the resource that `part` belongs to is kept."""
    return part.with_name(part.name + ".tag")


def _strong_tag(headers: http.client.HTTPMessage) -> str:
    """What If-Range may carry: a strong ETag, else the date; empty when the server names neither."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _checksum_fault(path: Path, sha256: str | None, md5: str | None) -> str | None:
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is not None:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, name).hexdigest()
            if found != wanted.lower():
                return f"its {name} is {found}, not {wanted}"
    return None
