"""Augmentation of images with their boxes, on torchvision.transforms.v2.

Every pipeline takes `(image, target)` as `CocoDataset` passes it. Crowd regions are rows of `target["boxes"]` with
label -1, so that they are transformed like the other boxes. Randomness comes from torch's global generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from otalab.boxes import box_area
from otalab.data.images import MOST_PIXELS
from otalab.errors import InputError

STRENGTHS = ("none", "flip", "light", "strong")


@dataclass
class CropResize:
    """With probability `p`, cut out a random window and resize it to the size of the image.

    A share is drawn from `low`..1. One side of the window is that share of the image's side times a factor of at most
    sqrt(1.25), the other is the share divided by the same factor; neither exceeds the image. A box that keeps less than
    a quarter of its area inside the window is dropped, the others are cut. Crowd regions (label -1) are cut, but never
    dropped because of their share.
    """

    low: float
    p: float = 0.5

    def __call__(self, image: Tensor, target: dict) -> tuple[Tensor, dict]:
        if torch.rand(()) >= self.p:
            return image, target
        high, wide = image.shape[-2:]
        share = self.low + (1 - self.low) * torch.rand(())
        stretch = 1.25 ** (torch.rand(()) - 0.5)
        rows = max(1, round(float((share * stretch).clamp(max=1)) * high))
        columns = max(1, round(float((share / stretch).clamp(max=1)) * wide))
        top = int(torch.randint(high - rows + 1, ()))
        left = int(torch.randint(wide - columns + 1, ()))

        old, labels = target["boxes"], target["labels"]
        boxes = F.crop(old, top, left, rows, columns)
        area, before = (box_area(b.as_subclass(Tensor)) for b in (boxes, old))
        kept = area >= torch.where(labels >= 0, 0.25, 0.0) * before
        target = {**target, "boxes": tv_tensors.wrap(boxes[kept], like=boxes), "labels": labels[kept]}
        return v2.Resize([high, wide])(F.crop(image, top, left, rows, columns), target)


def train_transforms(
    size: int | Sequence[int] | None = None, strength: str = "flip", max_size: int | None = None
) -> v2.Compose:
    """Augmentation for training, followed by `eval_transforms`, which draws from a sequence of sizes at random.

    strength: how strong the augmentation is:
        "none"    none at all
        "flip"    mirror half of the images
        "light"   also change colours, and crop half of the images by `CropResize` with shares of 0.6..1
        "strong"  mirror half, change colours more, shrink 30 % onto a grey canvas, and crop 70 % with shares of 0.3..1

    Boxes that are cut to under 25 % of their area, or to a side under 1 px, are dropped, so that an image may end
    without a box. Raises InputError for an unknown strength, a size under 1 and a `max_size` under a size.
    """
    flip = v2.RandomHorizontalFlip(0.5)
    steps = {
        "none": [],
        "flip": [flip],
        "light": [flip, v2.ColorJitter(0.2, 0.2, 0.2), CropResize(0.6, p=0.5)],
        "strong": [flip, v2.ColorJitter(0.4, 0.4, 0.4), v2.RandomApply([_zoom_out], p=0.3), CropResize(0.3, p=0.7)],
    }
    if strength not in steps:
        raise InputError(f"strength must be one of {', '.join(STRENGTHS)}, got {strength!r}")
    return v2.Compose([*steps[strength], *eval_transforms(size, max_size).transforms])


def eval_transforms(size: int | Sequence[int] | None = None, max_size: int | None = None) -> v2.Compose:
    """Resize the shorter side to `size` px, the longer to at most `max_size` (commonly 800 and 1333); None: leave it.

    One of several sizes is drawn at random for each image. Boxes are clamped to the image, and those with a side under
    1 px are dropped. Raises InputError for a size under 1 and for a `max_size` under a size.
    """
    sizes = [] if size is None else [size] if isinstance(size, int) else list(size)
    if any(s < 1 for s in sizes) or (max_size is not None and sizes and max_size < max(sizes)):
        raise InputError(f"need 1 <= size <= max_size, got {size} and {max_size}")
    # boxes are clamped before those under 1 px are dropped: a resize may round an edge to 128.00001
    sanitize = [v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=1.0)]
    return v2.Compose([*([partial(_resize, sizes, max_size)] if sizes else []), *sanitize])


def _zoom_out(image: Tensor, target: dict) -> tuple[Tensor, dict]:
    """Shrink the image by a random factor in 1..2 onto a grey canvas of the same size."""
    zoom = v2.RandomZoomOut(fill=114, side_range=(1.0, 2.0), p=1.0)
    return v2.Resize(list(image.shape[-2:]))(*zoom(image, target))


def _resize(sizes: Sequence[int], max_size: int | None, image: Tensor, target: dict) -> tuple[Tensor, dict]:
    """Resize an image's shorter side to one of `sizes`, drawn at random, and the longer to at most `max_size` px."""
    draw = int(torch.randint(len(sizes), ())) if len(sizes) > 1 else 0
    return v2.Resize(resized(*image.shape[-2:], sizes[draw], max_size))(image, target)


def resized(high: int, wide: int, size: int | None, max_size: int | None = None) -> tuple[int, int]:
    """Height and width, px, of an image after the resize: torchvision's rule, but no side becomes less than 1 px.

    Raises InputError if the image would have more than `MOST_PIXELS` pixels.
    """
    if size is None:
        return high, wide
    short, long = size, int(size * max(high, wide) / min(high, wide))
    if max_size is not None and long > max_size:
        short, long = max(1, int(max_size * short / long)), max_size
    if short * long > MOST_PIXELS:
        raise InputError(
            f"an image of {wide} x {high} px would become {short} x {long} px at size {size}, more than "
            f"{MOST_PIXELS:,} pixels; choose a smaller size, or a max_size"
        )
    return (short, long) if high <= wide else (long, short)
