"""Boxes for image files, and pictures with the boxes drawn in."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from otalab.data.images import read_image
from otalab.detect.checkpoint import load_model
from otalab.detect.detector import Detector
from otalab.detect.limits import HELD_PIXELS, PREDICT_PIXELS, shrink, shrunk_size
from otalab.errors import InputError, one_line
from otalab.files import read_json, write_json

ROW = {"box", "label", "score"}  # of a result


def predict(
    checkpoint: str | Path,
    images: Sequence[Path],
    out: Path,
    threshold: float = 0.45,
    device: str | torch.device = "cpu",
) -> Iterator[str | InputError]:
    """Detect objects in image files; for each, write `out/NAME.json` and `out/NAME.png` and yield a line of text.

    The JSON is a list of {"box": [x1, y1, x2, y2] in px, "label": class name, "score": 0..1}, best first, of scores
    from `threshold`. An image is looked at upright, as its EXIF says, and its boxes refer to that. One larger than
    `PREDICT_PIXELS` is shrunk for a detector that does not resize by itself, and the line says so.

    For an image that cannot be read or whose results cannot be written, its InputError is yielded, and the others
    follow. Raises InputError for a missing or damaged checkpoint, a threshold outside 0..1, and results that would
    overwrite each other, an image, or files that are none of `predict`'s.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; a score lies in 0..1")
    pictures = places(images, Path(out))
    model, description = load_model(checkpoint, device)
    for path, picture in zip(images, pictures, strict=True):
        try:
            yield predict_one(model, description["class_names"], path, picture, threshold)
        except InputError as error:
            yield error


def predict_one(model: Detector, names: list[str], path: Path, picture: Path, threshold: float) -> str:
    """Detect, write and tell of one image. Raises InputError when it cannot be read or its results not be written."""
    from otalab.viz.detections import save_detections  # drawing needs no import before there is a picture

    pixels = read_image(path, upright=True)
    found, seen = detect_pixels(model, pixels)
    keep = found["scores"] >= threshold
    found = {name: value[keep] for name, value in found.items()}
    rows = [
        {"box": [round(v, 1) for v in box], "label": names[label], "score": round(score, 3)}
        for box, label, score in zip(*(found[n].tolist() for n in ("boxes", "labels", "scores")), strict=True)
    ]
    write_json(picture.with_suffix(".json"), rows)
    save_detections(picture, pixels, found, names)
    objects = ", ".join(f"{row['label']} {row['score']:.2f}" for row in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    (height, width), (low, narrow) = pixels.shape[:2], seen
    note = "" if seen == (height, width) else f" ({width} x {height} px, looked at in {narrow} x {low} px)"
    return one_line(f"{path}: {objects or 'nothing'}{more} -> {picture}, .json{note}")


@torch.inference_mode()
def detect_pixels(model: Detector, pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """Detections of one image on the CPU, boxes in its px, and the size (height, width) in which it was looked at.

    A large image is shrunk before it becomes float32: to `PREDICT_PIXELS` for a detector that takes images as they
    come, and for others to `HELD_PIXELS` of float32, of which their own resize leaves less.
    """
    size = pixels.shape[:2]
    seen = shrunk_size(size, PREDICT_PIXELS if model.image_size is None else HELD_PIXELS)
    image = torch.from_numpy(shrink(pixels, seen)).to(model.mean.device).permute(2, 0, 1).float().div_(255)
    found = {name: value.cpu() for name, value in model([image])[0].items()}
    ratio = torch.tensor([size[1] / seen[1], size[0] / seen[0]]).repeat(2)
    found["boxes"] = clip_boxes_to_image(found["boxes"] * ratio, size)  # the product may round up
    return found, seen


def places(images: Sequence[Path], out: Path) -> list[Path]:
    """Where the picture of each image goes. Raises InputError when a file would be lost by that."""
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write into {out}: it is a file")
    sources = {os.path.realpath(path) for path in images}
    taken: dict[Path, Path] = {}
    for path in images:
        picture = out / f"{path.stem}.png"
        result = picture.with_suffix(".json")
        if os.path.realpath(picture) in sources:
            raise InputError(f"{picture} is one of the images and would be overwritten; choose another --out")
        if picture in taken:
            raise InputError(f"{picture} would be overwritten: it is the place of both {taken[picture]} and {path}")
        foreign = result if result.exists() else picture
        if foreign.exists() and not is_result(result):
            raise InputError(f"{foreign} is no result of predict and would be overwritten; choose another --out")
        taken[picture] = path
    return list(taken)


def is_result(path: Path) -> bool:
    """Whether a JSON file holds what `predict` writes."""
    rows = read_json(path)
    return isinstance(rows, list) and all(isinstance(row, dict) and row.keys() == ROW for row in rows)
