"""How large a batch may be: what is made of sizes is bounded before it is made."""

import math
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from otalab.errors import InputError

PREDICT_PIXELS = 2**22  # of one image in a network: about 1 GB
STEP_PIXELS = 2**26  # of a batch in a network: some 16 GB in evaluation, several times that in training
HELD_PIXELS = 2**25  # of an image in float32: 0.4 GB
BATCH_PIXELS = 2**28  # of a batch in float32, before it is resized: 3 GB


def shrunk_size(size: tuple[int, int], most: int) -> tuple[int, int]:
    """The size (height, width) of an image shrunk to `most` pixels, at least 1 px a side; smaller ones keep theirs."""
    height, width = size
    if height * width <= most:
        return height, width
    ratio = math.sqrt(most / (height * width))
    if min(height, width) * ratio < 1:  # a line: only its length can shrink
        return (1, min(width, most)) if height < width else (min(height, most), 1)
    return max(1, int(height * ratio)), max(1, int(width * ratio))


def shrink(pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image in that size (height, width), antialiased; itself if it has it."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resized(sizes: Int[np.ndarray, "n 2"], image_size: Sequence[int] | None) -> Int[np.ndarray, "n 2"]:
    """Sizes (height, width) as a detector's `image_size` (shorter, longer side) makes them."""
    if image_size is None:
        return sizes
    ratio = np.minimum(image_size[0] / sizes.min(axis=1), image_size[1] / sizes.max(axis=1))
    return np.maximum(1, np.round(sizes * ratio[:, None])).astype(np.int64)


def require_steps_fit(sizes: Int[np.ndarray, "n 2"], image_size: Sequence[int] | None, batch_size: int) -> None:
    """Raise InputError when a batch, padded to its largest sides, would have more than STEP_PIXELS."""
    count = min(batch_size, len(sizes))
    height, width = resized(sizes, image_size).max(axis=0).tolist()
    if count * height * width > STEP_PIXELS:
        raise InputError(
            f"a batch of {count} padded to {width} x {height} px has {count * height * width / 1e6:,.0f} Mpx, "
            f"and {STEP_PIXELS / 1e6:.0f} Mpx are the most: try a smaller --batch-size, --size or --max-size"
        )


def evaluation_batch(sizes: Int[np.ndarray, "n 2"], image_size: Sequence[int] | None, batch_size: int) -> int:
    """The largest batch up to `batch_size` that fits; detections do not depend on it.

    Raises InputError when a single image does not fit into STEP_PIXELS.
    """
    height, width = resized(sizes, image_size).max(axis=0).tolist()
    raw = int(sizes.prod(axis=1).max())
    fits = min(STEP_PIXELS // (height * width), BATCH_PIXELS // raw)
    if fits == 0:
        raise InputError(
            f"images of up to {width} x {height} px are too large to evaluate on; train with --size, which evaluation "
            "then resizes to, or shrink them"
        )
    return min(batch_size, fits)


def require_memory(sizes: Int[np.ndarray, "n 2"]) -> None:
    """Raise InputError when the images, decoded, are larger than the machine's memory."""
    need = 3 * int(sizes.prod(axis=1).sum())
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > there:
        raise InputError(
            f"{len(sizes)} images take {need / 2**30:,.1f} GiB decoded, and the machine has {there / 2**30:,.1f} GiB; "
            "with --workers 1 or more they are loaded as they are needed"
        )
