"""Download COCO 2017: all of a split, or a sample of its photos."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from otalab.data.annotations import choose_categories, missing_files, read_annotations
from otalab.data.download import fetch, safe_extract
from otalab.data.foreign import scaled, shrunk
from otalab.data.images import photo_size, read_image, read_shrunk
from otalab.data.manifest import NAME, Manifest, read_manifest
from otalab.data.sample import stratified
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

_AT_ONCE = 8  # photos fetched in parallel


def fetch_coco(
    folder: str | Path,
    split: str = "val",
    max_images: int | None = None,
    longest_side: int | None = None,
    seed: int = 0,
    progress: bool = True,
    categories: Sequence[str] | None = None,
    ids: str | Path | None = None,
) -> Path:
    """Fetch a split of COCO 2017 into `folder`; return the folder. What is already there is not fetched again.

    By default it fetches the whole split in the official layout, `annotations/instances_{split}2017.json` beside
    `{split}2017/` (val 0.8 GB, train 19 GB, annotations 0.25 GB). With `max_images`, `categories` or `ids` it fetches
    only some photos, several at once, and writes `{split}/instances.json` beside `{split}/images/`. `longest_side` then
    shrinks larger photos and their boxes to that many px.

    `stratified` draws `max_images` photos by `seed` from those that show one of the `categories` (None: any category).
    Boxes of other categories are left out. The set's manifest is `{split}/ids.json`. Given as `ids`, such a file asks
    for exactly its photos and categories. The same seed and options give the same ids and hash everywhere.

    Each photo of such a set is decoded before it is put in its place. One that is cut, damaged or of another size than
    annotated is fetched once more, then InputError names it. The annotation file and the manifest come last.
    """
    folder = Path(folder)
    if split not in ("train", "val"):
        raise InputError(f"split must be train or val, got {split!r}")
    if ids is not None and (max_images is not None or categories is not None):
        raise InputError(f"{ids} says which photos and categories; give no max_images or categories beside it")
    if max_images is not None and max_images < 1:
        raise InputError(f"max_images must be at least 1, got {max_images}")
    some = max_images is not None or categories is not None or ids is not None
    if longest_side is not None and (not some or longest_side < 1):
        raise InputError(f"longest_side {longest_side} must be at least 1 px and go with max_images, categories or ids")
    manifest = None if ids is None else read_manifest(ids)
    if manifest and manifest.split != split:
        raise InputError(f"{ids} lists photos of {manifest.split}, not of {split}")
    annotations = folder / "annotations" / f"instances_{split}2017.json"
    _fetch_archive("annotations", folder, annotations.is_file(), progress, choose=lambda name: "/instances_" in name)
    content = read_annotations(annotations)
    if not some:
        names = [row["file_name"] for row in content["images"]]
        _fetch_archive(split, folder, not missing_files(folder / f"{split}2017", names), progress)
        return folder
    names = manifest.categories if manifest else categories
    _, label = choose_categories(content, names, annotations)
    rows = [row for row in content["annotations"] if row["category_id"] in label]
    if manifest is None:
        holders = defaultdict(set)
        for row in rows:
            if not row.get("iscrowd"):
                holders[row["category_id"]].add(row["image_id"])
        manifest = Manifest(split, stratified(holders, max_images, seed), None if names is None else list(names), seed)
    content |= {"annotations": rows, "categories": [row for row in content["categories"] if row["id"] in label]}
    _fetch_subset(content, annotations, folder / split, manifest, longest_side, progress)
    return folder


def _fetch_archive(
    name: str, folder: Path, there: bool, progress: bool, choose: Callable[[str], bool] | None = None
) -> None:
    """Fetch one of COCO's archives, or take the one in `folder`; extract and remove it.

    Do nothing if its files are `there`, unless an earlier extraction was interrupted.
    """
    url = COCO_URLS[name]
    archive = folder / url.rpartition("/")[2]
    held = archive.with_name(f".{archive.name}")  # its name during extraction; if it exists, one was interrupted
    if not held.exists():
        if there:
            return
        fetch(url, archive, COCO_MD5[name], progress).replace(held)
    safe_extract(held, folder, choose, progress)
    held.unlink()


def _fetch_subset(
    content: dict, path: Path, folder: Path, manifest: Manifest, longest_side: int | None, progress: bool
) -> None:
    """Fetch a manifest's photos, then write the annotation file that makes them a data set, and last the manifest."""
    for place in (folder, folder / "images"):
        sweep(place)
    stored = {row["id"]: row for row in content["images"]}
    if unknown := [i for i in manifest.ids if i not in stored]:
        raise InputError(f"{path} has no image {unknown[0]}, nor {len(unknown) - 1} others of the {len(manifest.ids)}")
    wanted = {}
    for i in manifest.ids:
        width, height = shrunk(_size(stored[i]), longest_side)
        wanted[i] = {**stored[i], "width": width, "height": height}
    images = list(wanted.values())
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # the first fault ends the work
        work = pool.map(partial(_fetch_image, folder / "images"), (stored[i] for i in wanted), images)
        list(progress_bar(work, desc=f"{folder.name} images", total=len(images), unit="image", disable=not progress))
    annotations = [
        _shrunk_row(row, _size(stored[row["image_id"]]), _size(wanted[row["image_id"]]))
        for row in content["annotations"]
        if row["image_id"] in wanted
    ]
    (folder / NAME).unlink(missing_ok=True)  # it must never belong to another sample than the annotations
    with write_whole(folder / "instances.json") as part:
        part.write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    manifest.write(folder / NAME)


def _size(image: dict) -> tuple[int, int]:
    return image["width"], image["height"]


def _shrunk_row(row: dict, before: tuple[int, int], after: tuple[int, int]) -> dict:
    """An annotation scaled to its resized image, without the segmentation."""
    rest = {key: value for key, value in row.items() if key != "segmentation"}
    scale = after[0] / before[0] * after[1] / before[1]
    area = row.get("area", row["bbox"][2] * row["bbox"][3]) * scale
    return {**rest, "bbox": scaled(row["bbox"], before, after), "area": area}


def _fetch_image(folder: Path, stored: dict, wanted: dict) -> None:
    """Fetch an image from its `coco_url`, check it, and shrink it to the width and height of the `wanted` row."""
    path, size, url = folder / wanted["file_name"], _size(wanted), wanted.get("coco_url")
    with suppress(InputError):  # no photo yet, or half of one
        if photo_size(path) == size:
            return
    if not isinstance(url, str):
        raise InputError(f"image {quoted(wanted['id'])} has coco_url {quoted(url)}, no address to fetch it from")
    fresh = path.with_name(f".{path.name}.new")  # a name that is not taken for a photo before it is checked
    for _ in range(2):
        fetch(url, fresh, progress=False)
        fault = _fault(fresh, _size(stored))
        if fault is None:
            break
        fresh.unlink()
    else:
        raise InputError(f"{url} arrived damaged, twice: {fault}")
    if size == _size(stored):
        fresh.replace(path)
        return
    pixels = read_shrunk(fresh, size)
    fresh.unlink()
    with write_whole(path) as part:
        pixels.save(part, "JPEG", quality=90)


def _fault(path: Path, size: tuple[int, int]) -> str | None:
    """What is wrong with an image file that should have this width and height; None if nothing is."""
    try:
        height, width = read_image(path).shape[:2]
    except InputError as error:
        return str(error)
    return None if (width, height) == size else f"it is {width} x {height} px, annotated as {size[0]} x {size[1]} px"
