"""Detect objects in image files; write their boxes, and pictures with the boxes drawn in."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from otalab.data.images import read_image
from otalab.detect.checkpoint import load_model
from otalab.detect.detector import Detector
from otalab.detect.limits import HELD_PIXELS, PREDICT_PIXELS, shrunk_size
from otalab.errors import InputError, one_line
from otalab.files import read_json, write_json

ROW = {"box", "label", "score"}  # keys of a result


def predict(
    checkpoint: str | Path,
    images: Sequence[Path],
    out: Path,
    threshold: float = 0.45,
    device: str | torch.device = "cpu",
) -> Iterator[str | InputError]:
    """Detect objects in image files; for each, write `out/NAME.json` and `out/NAME.png` and yield a line of text.

    The JSON is a list of {"box": [x1, y1, x2, y2] in px, "label": class name, "score": 0..1}, best first, with scores
    of at least `threshold`. Images are turned upright according to their EXIF data, and boxes refer to the upright
    image. If the detector does not resize images itself, those larger than `PREDICT_PIXELS` are shrunk. The line says
    when an image was shrunk.

    If an image cannot be read or its results cannot be written, yields its InputError and continues with the next.
    Raises InputError, before the first image, for a missing or damaged checkpoint, a threshold outside 0..1, an `out`
    that is a file, and results that would overwrite each other, an image, or files that `predict` did not write.
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
    """Detect objects in one image, write the results, and return the line of text for it.

    Raises InputError if the image cannot be read or its results cannot be written.
    """
    from otalab.viz.detections import save_detections  # imported late: otalab.viz builds on this package

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
    """Detections of one image, and the size (height, width) at which the image was given to the detector.

    The detections are on the CPU, with boxes in px of the given image. A large image is shrunk before it becomes
    float32: to `PREDICT_PIXELS` if the detector takes images in any size, or to `HELD_PIXELS` if it resizes them.
    """
    size = pixels.shape[:2]
    seen = shrunk_size(size, PREDICT_PIXELS if model.image_size is None else HELD_PIXELS)
    small = np.array(Image.fromarray(pixels).resize(seen[::-1], Image.Resampling.BILINEAR))
    image = torch.from_numpy(small).to(model.mean.device).permute(2, 0, 1).float().div_(255)
    found = {name: value.cpu() for name, value in model([image])[0].items()}
    ratio = torch.tensor([size[1] / seen[1], size[0] / seen[0]]).repeat(2)
    found["boxes"] = clip_boxes_to_image(found["boxes"] * ratio, size)  # the product may round up
    return found, seen


def places(images: Sequence[Path], out: Path) -> list[Path]:
    """The path of each image's picture. Raises InputError if `out` is a file, or a file would be lost."""
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
    """Whether a file holds JSON as `predict` writes it."""
    rows = read_json(path)
    return isinstance(rows, list) and all(isinstance(row, dict) and row.keys() == ROW for row in rows)
