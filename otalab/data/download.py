"""Downloads that resume, are checked and appear whole; COCO 2017, all of a split or a few of its images."""

import hashlib
import http.client
import json
import math
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from otalab.data.annotations import by_id, missing_files, read_annotations
from otalab.data.images import open_image, read_image
from otalab.data.table import choose
from otalab.errors import InputError, quoted
from otalab.files import sweep, write_whole
from otalab.progress import progress_bar

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

_SIDES = ("width", "height")
_CHUNK = 1 << 18  # bytes
_TIMEOUT = 30  # seconds without a byte
_PASSING = (429, 500, 502, 503, 504)  # HTTP statuses worth another attempt


def fetch(url: str, path: str | Path, md5: str | None = None, progress: bool = True, attempts: int = 3) -> Path:
    """Download `url` (http or https) to `path`; return the path.

    A file already there is kept if it has the MD5 sum, or if none is given. Bytes arrive in `path` + ".part", and are
    renamed to `path` when complete and checked. With a sum, which tells whether old and new bytes belong together, the
    next attempt or call continues where the last one stopped. Raises InputError with the URL and the HTTP status, or
    the bytes received, or the sums.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise InputError(f"cannot fetch {url}: not an http or https address")
    if path.exists() and (md5 is None or _md5(path) == md5.lower()):
        return path
    part = path.with_name(path.name + ".part")
    for attempt in range(1, attempts + 1):
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            _receive(url, part, md5 is not None, progress)
            break
        except urllib.error.HTTPError as error:
            fault, passing = f"HTTP {error.code} {error.reason}", error.code in _PASSING
        except (OSError, http.client.HTTPException) as error:
            fault, passing = error, True
        except ValueError as error:  # no room for it, or an address that is none
            fault, passing = error, False
        if attempt == attempts or not passing:
            raise InputError(f"cannot fetch {url}: {fault}")
        time.sleep(attempt)
    if md5 is not None and (found := _md5(part)) != md5.lower():
        part.unlink()
        raise InputError(f"{url} arrived damaged: its md5 is {found}, not {md5}")
    return part.replace(path)


def _receive(url: str, part: Path, resume: bool, progress: bool) -> None:
    """Write the file, or what is missing of it, to `part`. Raises OSError when it comes short."""
    have = part.stat().st_size if resume and part.exists() else 0
    headers = {"User-Agent": "otalab"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing is missing, or this is another file: its sum will tell
            return
        raise
    with response:
        done = have if response.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
        total = None if response.length is None else done + response.length
        require_room(part.stem, response.length or 0, part.parent)
        bar = progress_bar(desc=part.stem, total=total, initial=done, unit="B", unit_scale=True, disable=not progress)
        with part.open("ab" if done else "wb") as file, bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                done += len(chunk)
    if total is not None and done < total:
        raise OSError(f"ended after {done} of {total} bytes")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def require_room(source: str | Path, need: int, folder: Path) -> None:
    """Raise InputError unless the disk of a folder, which exists, has so many bytes free."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise InputError(f"{source} needs {need / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free")


def safe_extract(
    archive: str | Path, folder: str | Path, choose: Callable[[str], bool] | None = None, progress: bool = True
) -> list[Path]:
    """Extract the files of a zip archive into `folder`, all or those whose name `choose` accepts.

    Every member is looked at before the first is written: a link, or a path that is absolute or climbs out of the
    folder, raises InputError with its name, and nothing is written. (`zipfile` would write it elsewhere without a
    word.) So does an archive larger than the free disk space. Each file appears whole. Returns the paths written.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                name, link = member.filename, stat.S_ISLNK(member.external_attr >> 16)
                if link or name.startswith("/") or ".." in PurePosixPath(name).parts or set(name) & set("\\:\0"):
                    raise InputError(f"{archive}: will not extract {quoted(name)}: a link, or outside the folder")
            members = [m for m in file.infolist() if not m.is_dir() and (choose is None or choose(m.filename))]
            folder.mkdir(parents=True, exist_ok=True)
            require_room(archive, sum(m.file_size for m in members), folder)
            bar = progress_bar(members, desc=archive.name, unit="file", disable=not progress)
            return [_extract(file, member, folder / member.filename) for member in bar]
    except InputError:
        raise
    except Exception as error:  # zipfile raises whatever the damage leads it to
        raise InputError(f"cannot extract {archive} to {folder}: {error or type(error).__name__}") from error


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with archive.open(member) as source, part.open("wb") as target:
        shutil.copyfileobj(source, target)
    return part.replace(path)


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
    _fetch_archive("annotations", folder, annotations.is_file(), progress, choose=lambda name: "/instances_" in name)
    content = read_annotations(annotations)
    if max_images is not None:
        _fetch_subset(content, folder / split, max_images, longest_side, seed, progress)
        return folder
    names = [row["file_name"] for row in content["images"]]
    _fetch_archive(split, folder, not missing_files(folder / f"{split}2017", names), progress)
    return folder


def _fetch_archive(
    name: str, folder: Path, there: bool, progress: bool, choose: Callable[[str], bool] | None = None
) -> None:
    """Fetch one of COCO's archives, or take the one in `folder`; extract and remove it, unless its files are there."""
    url = COCO_URLS[name]
    archive = folder / url.rpartition("/")[2]
    held = archive.with_name(f".{archive.name}")  # while it is extracted: still there, a process was killed meanwhile
    if there and not held.exists():
        return
    if not held.exists():
        fetch(url, archive, COCO_MD5[name], progress).replace(held)
    safe_extract(held, folder, choose, progress)
    held.unlink()


def _fetch_subset(content: dict, folder: Path, count: int, longest_side: int | None, seed: int, progress: bool) -> None:
    """Fetch the chosen images one by one, then write the annotation file that makes them a data set."""
    for place in (folder, folder / "images"):
        sweep(place)
    rows = choose(sorted(content["images"], key=by_id), count, seed)
    images = [{**row, **_shrunk(row, longest_side)} for row in rows]
    with ThreadPoolExecutor(8) as pool:
        work = pool.map(partial(_fetch_image, folder / "images"), images)
        list(progress_bar(work, desc=f"{folder.name} images", total=len(images), unit="image", disable=not progress))
    scale = {new["id"]: [new[s] / old[s] for s in _SIDES] for old, new in zip(rows, images, strict=True)}
    annotations = [_scaled(row, *scale[row["image_id"]]) for row in content["annotations"] if row["image_id"] in scale]
    with write_whole(folder / "instances.json") as path:
        path.write_text(json.dumps({**content, "images": images, "annotations": annotations}))


def _shrunk(row: dict, longest_side: int | None) -> dict[str, int]:
    """Width and height, px, of an image whose longest side is limited."""
    scale = min(1.0, (longest_side or math.inf) / max(row["width"], row["height"]))
    return {side: max(1, round(row[side] * scale)) for side in _SIDES}


def _scaled(row: dict, x: float, y: float) -> dict:
    """An annotation of an image scaled by `x` and `y`, without its segmentation."""
    rest = {key: value for key, value in row.items() if key != "segmentation"}
    box = [round(value * scale, 2) for value, scale in zip(row["bbox"], (x, y, x, y), strict=True)]
    return {**rest, "bbox": box, "area": row.get("area", row["bbox"][2] * row["bbox"][3]) * x * y}


def _fetch_image(folder: Path, image: dict) -> None:
    """Fetch an image by its `coco_url`, shrunk to the width and height of its row where these are smaller."""
    path, size, url = folder / image["file_name"], (image["width"], image["height"]), image.get("coco_url")
    if _size(path) == size:
        return
    if not isinstance(url, str):
        raise InputError(f"image {quoted(image['id'])} has coco_url {quoted(url)}, no address to fetch it from")
    path.unlink(missing_ok=True)
    if _size(fetch(url, path, progress=False)) == size:
        return
    pixels = Image.fromarray(read_image(path)).resize(size, Image.Resampling.LANCZOS)
    with write_whole(path) as part:
        pixels.save(part, "JPEG", quality=90)


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with open_image(path) as image:
            return image.size
    except Exception:  # Pillow's readers raise whatever the damage leads them to
        return None
