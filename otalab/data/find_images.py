"""The image files that a user names: as files, folders and patterns."""

import glob
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from otalab.errors import InputError

logger = logging.getLogger(__name__)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files that paths stand for, in the order of the paths.

    A folder stands for the image files directly in it. A pattern such as "frames/*.jpg" stands for the image files that
    it matches, where ** matches folders of any depth. The files of each are in natural order: frame2 before frame10.
    Every other path stands for itself, whether or not such a file exists. One warning says how many files are left out
    because they are not images.

    Raises InputError for a folder or a pattern without an image.
    """
    found, skipped = [], 0
    for path in paths:
        if path.is_dir():
            where, files = f"directly in folder {path}", path.iterdir()
        elif glob.has_magic(str(path)) and not os.path.lexists(path):  # photo[1].jpg may be the name of a file
            where, files = f"matches {path}", map(Path, glob.glob(str(path), recursive=True))
        else:
            found.append(path)
            continue
        files = [file for file in files if not file.is_dir()]
        images = [file for file in files if looks_like_image(file)]
        if not images:
            others = f", only other files ({len(files)})" if files else ""
            raise InputError(f"no image {where}{others}")
        found += sorted(images, key=natural)
        skipped += len(files) - len(images)
    if skipped:
        logger.warning("left out: %d files that are no images by their names", skipped)
    return found


def by_stem(folder: Path, wanted: Callable[[Path], bool], what: str) -> dict[str, Path]:
    """The wanted files directly in a folder, by their names without the ending, in natural order.

    Raises InputError if two files share such a name: it would not be clear which of them belongs to the file of that
    name in another folder. `what` they are is for the message.
    """
    found: dict[str, Path] = {}
    for path in sorted(filter(wanted, folder.iterdir()), key=natural):
        if path.stem in found:
            pair = f"{found[path.stem].name} and {path.name}"
            raise InputError(f"{folder} has several {what} of one name: {pair} differ in their endings alone")
        found[path.stem] = path
    return found


def looks_like_image(path: Path) -> bool:
    """Whether a file has the ending of an image format that Pillow can read, and is not hidden."""
    kind = Image.registered_extensions().get(path.suffix.lower())  # Pillow also registers MPEG, which is no image
    return kind in Image.OPEN and Image.MIME.get(kind, "").startswith("image/") and not path.name.startswith(".")


def natural(path: Path) -> list:
    """A sort key that orders numbers in names as numbers: frame2 before frame10, frame02 beside frame2."""
    pieces = re.split("([0-9]+)", str(path))
    return [[int(piece) if i % 2 else piece.casefold() for i, piece in enumerate(pieces)], str(path)]
