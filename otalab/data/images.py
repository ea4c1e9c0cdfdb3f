"""Reading image files of all common kinds."""

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
"""Most pixels of an image that is accepted: 13,377 x 13,377, 0.5 GB as RGB. Pillow refuses larger images."""


def read_image(path: Path, upright: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image file as RGB: the first frame, 16-bit grey scaled from 0..65535, transparency dropped.

    The pixels keep the orientation in which they are stored, because COCO's boxes refer to it. `upright=True` turns
    them as EXIF asks, as a viewer does. Raises InputError if the path is not a regular file or not a whole image, for
    more than `MOST_PIXELS` pixels, and for 32-bit and float pixels, whose range is not defined.
    """
    with open_image(path) as image:
        image.verify()  # checks a PNG's checksums, which decoding ignores
    with open_image(path) as image:
        _require_range(image)
        return _as_rgb(ImageOps.exif_transpose(image) if upright and orientation(image) != 1 else image)


def read_shrunk(path: Path, size: tuple[int, int]) -> Image.Image:
    """The image that `read_image` reads, resized to `size` (width, height). Raises InputError as `read_image` does."""
    return Image.fromarray(read_image(path)).resize(size, Image.Resampling.LANCZOS)


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as stored, px. Raises InputError if it is not an image."""
    with open_image(path) as image:
        return image.size


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Yield the image, not yet decoded; any error with it in the block becomes an InputError.

    Pillow's warnings about large images, and about metadata that is not read here, are suppressed.
    """
    try:
        require_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                yield image
    except InputError:
        raise
    except Exception as error:  # a damaged file can make Pillow's readers raise anything
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"cannot read image {path}: {what}") from None


def orientation(image: Image.Image) -> int:
    """How EXIF asks to turn the image, 1..8; 1 means not at all, as when EXIF is absent or damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF can make Pillow's reader raise anything
        return 1
    return value if value in range(1, 9) else 1


def is_turned(path: Path) -> bool:
    """Whether EXIF asks for a quarter turn of an image file, so that a viewer shows it with its sides swapped."""
    with open_image(path) as image:
        return orientation(image) >= 5


def _require_range(image: Image.Image) -> None:
    whole = image.mode == "I" and image.format in ("PNG", "PPM")  # 16 bits, which Pillow returns as 32
    if image.mode in ("I", "F") and not whole:
        kind = "floats" if image.mode == "F" else "signed or 32-bit numbers"
        raise ValueError(f"its pixels are {kind}, which have no defined range; save it with 8 or 16 bits")


def _as_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        grey = np.round(np.asarray(image).clip(0, 65535) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # convert would copy an RGB photo
