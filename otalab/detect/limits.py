"""Limits on the size of images and batches, checked before their memory is allocated."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int

from otalab.data.memory import free_memory
from otalab.errors import InputError

PREDICT_PIXELS = 2**22  # largest image that `predict` gives to a network: about 1 GB
EVAL_PIXELS = 2**24  # largest batch in evaluation: about 4 GB
STEP_PIXELS = 2**26  # largest batch in training, and largest image in evaluation: what the largest devices hold
HELD_PIXELS = 2**25  # largest image in float32: 0.4 GB
BATCH_PIXELS = 2**28  # largest batch in float32, before it is resized: 3 GB
STEP_BYTES = 600  # bytes that a px needs in training, at least: backbone tiny with a single class


def shrunk_size(size: tuple[int, int], most: int) -> tuple[int, int]:
    """The size (height, width) of an image shrunk to at most `most` pixels, with sides of at least 1 px.

    A size that fits already stays as it is.
    """
    height, width = size
    if height * width <= most:
        return height, width
    ratio = math.sqrt(most / (height * width))
    if min(height, width) * ratio < 1:  # a line: only its longer side can shrink
        return (1, min(width, most)) if height < width else (min(height, most), 1)
    return int(height * ratio), int(width * ratio)


def resized(
    sizes: Int[np.ndarray, "n 2"], image_size: Sequence[int] | None, rounding: np.ufunc = np.rint
) -> Int[np.ndarray, "n 2"]:
    """The sizes (height, width) of images after a detector's resize to `image_size` (shorter side, longest side)."""
    if image_size is None:
        return sizes
    ratio = np.minimum(image_size[0] / sizes.min(axis=1), image_size[1] / sizes.max(axis=1))
    return np.maximum(1, rounding(sizes * ratio[:, None])).astype(np.int64)


def require_steps_fit(
    sizes: Int[np.ndarray, "n 2"], image_size: Sequence[int] | None, batch_size: int, device: torch.device
) -> None:
    """Raise InputError if a batch of images, padded to the largest height and width of all, does not fit into memory.

    It must have at most `STEP_PIXELS` pixels and, on a CPU, fit into the free memory.
    """
    count = min(batch_size, len(sizes))
    height, width = resized(sizes, image_size).max(axis=0).tolist()
    pixels = count * height * width
    free = free_memory() if device.type == "cpu" else None
    if pixels > STEP_PIXELS or (free is not None and pixels * STEP_BYTES > free):
        room = "" if free is None else f", and {free / 1e9:.1f} GB are free"
        raise InputError(
            f"a batch of {count} padded to {width} x {height} px needs {pixels * STEP_BYTES / 1e9:,.0f} GB of memory "
            f"or more{room}; try a smaller --batch-size, --size or --max-size"
        )


def evaluation_batch(sizes: Int[np.ndarray, "n 2"], image_size: Sequence[int] | None, batch_size: int) -> int:
    """The largest batch size, from 1 to `batch_size`, that fits into memory; detections do not depend on it.

    Raises InputError if an image, after resizing, has more than `STEP_PIXELS` pixels.
    """
    small = resized(sizes, image_size)
    height, width = small[small.prod(axis=1).argmax()].tolist()
    if height * width > STEP_PIXELS:
        raise InputError(
            f"images of up to {width} x {height} px are too large to evaluate on; train with --size, which evaluation "
            "then resizes to, or shrink them"
        )
    height, width = small.max(axis=0).tolist()  # of a padded batch
    fits = min(EVAL_PIXELS // (height * width), BATCH_PIXELS // int(sizes.prod(axis=1).max()))
    return max(1, min(batch_size, fits))
