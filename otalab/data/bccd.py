"""BCCD: 364 photos of blood cells with about 13 boxes each, small and good for learning (MIT licence)."""

import tempfile
from pathlib import Path

from otalab.data.download import fetch, safe_extract
from otalab.data.foreign import Split, require_new, write_folder
from otalab.data.voc import read_voc
from otalab.errors import InputError

BCCD_URL = "https://github.com/Shenggan/BCCD_Dataset/archive/refs/tags/v1.0.zip"
BCCD_NAMES = ["RBC", "WBC", "Platelets"]
BCCD_PHOTOS = 364


def fetch_bccd(
    folder: str | Path, longest_side: int | None = None, progress: bool = True
) -> tuple[Path, dict[str, Split]]:
    """Fetch the photos and annotations and write them as a COCO-format folder: train 205, val 87, test 72 photos.

    `longest_side` shrinks the photos, which have 640 x 480 px, to that many px. The folder is written whole or not at
    all. Returns the folder and the splits as they were read. Raises InputError if the folder already holds something,
    if the archive cannot be fetched, and if the archive holds something else.
    """
    require_new(folder)
    with tempfile.TemporaryDirectory(prefix="otalab-") as place:
        archive = fetch(BCCD_URL, Path(place) / "bccd.zip", progress=progress)
        files = safe_extract(archive, Path(place) / "bccd", progress=progress)
        roots = {path.parent.parent for path in files if path.parent.name == "Annotations"}
        if len(roots) != 1:
            raise InputError(f"{BCCD_URL} holds {len(roots)} folders Annotations, not one")
        splits, names = read_voc(roots.pop())
        photos = sum(len(split.photos) for split in splits.values())
        if photos != BCCD_PHOTOS or set(names) != set(BCCD_NAMES):
            fault = f"{photos} photos of the classes {', '.join(names)}, not {BCCD_PHOTOS} of {', '.join(BCCD_NAMES)}"
            raise InputError(f"{BCCD_URL} holds {fault}")
        return write_folder(folder, splits, BCCD_NAMES, longest_side, progress), splits
