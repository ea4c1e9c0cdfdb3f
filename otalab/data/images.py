"""Reading image files of every kind that people have."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from otalab.data.reading import require_file
from otalab.errors import InputError

MOST_PIXELS = 178_956_970
"""Pixels of the largest image that is taken: 13,377 x 13,377, 0.5 GB as RGB. Pillow refuses those beyond it."""


def read_image(path: Path, upright: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """The file's pixels as RGB: the first frame; grey of 16 bits scaled from 0..65535; transparency left out.

    They lie as they are stored, since COCO's boxes refer to them so; `upright=True` turns them as EXIF asks, the way a
    viewer shows the photo. Raises InputError for what is no regular file or no whole image, for more than `MOST_PIXELS`
    pixels, and for 32-bit and float pixels, whose range is not defined.
    """
    with open_image(path) as image:
        image.verify()  # the checksums of a PNG, which decoding passes over
    with open_image(path) as image:
        _require_range(image)
        return _as_rgb(ImageOps.exif_transpose(image) if upright and orientation(image) != 1 else image)


def read_shrunk(path: Path, size: tuple[int, int]) -> Image.Image:
    """The image as `read_image` has it, at another width and height. Raises InputError alike."""
    return Image.fromarray(read_image(path)).resize(size, Image.Resampling.LANCZOS)


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as stored, px. Raises InputError for what is no image."""
    with open_image(path) as image:
        return image.size


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The image, not yet decoded; what goes wrong with it in the block raises InputError.

    Pillow's warnings are kept back: of large images, and of metadata we do not read.
    """
    try:
        require_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                yield image
    except InputError:
        raise
    except Exception as error:  # Pillow's readers raise whatever the damage leads them to
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot read image {path}: {what}") from None


def orientation(image: Image.Image) -> int:
    """How EXIF asks to turn the image, 1..8; 1, not at all, where it says nothing or is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's reader raises whatever the damage leads it to
        return 1
    return value if value in range(1, 9) else 1


def is_turned(path: Path) -> bool:
    """Whether EXIF asks to turn an image file by a quarter, so that a viewer shows it with its sides swapped."""
    with open_image(path) as image:
        return orientation(image) >= 5


def _require_range(image: Image.Image) -> None:
    whole = image.mode == "I" and image.format in ("PNG", "PPM")  # 16 bits, which Pillow hands over as 32
    if image.mode in ("I", "F") and not whole:
        kind = "floats" if image.mode == "F" else "signed or 32-bit numbers"
        raise ValueError(f"its pixels are {kind}, which have no defined range; save it with 8 or 16 bits")


def _as_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        grey = np.round(np.asarray(image).clip(0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # no copy of a large photo
