"""Boxes for image files, and pictures with the boxes drawn in."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from otalab.data.annotations import read_image
from otalab.detect.checkpoint import load_model
from otalab.errors import InputError
from otalab.files import write_json


def predict(
    checkpoint: str | Path,
    images: Sequence[Path],
    out: Path,
    threshold: float = 0.45,
    device: str | torch.device = "cpu",
) -> Iterator[str]:
    """Detect objects in image files; for each, write `out/NAME.json` and `out/NAME.png` and yield a line of text.

    The JSON is a list of {"box": [x1, y1, x2, y2] in px, "label": class name, "score": 0..1}, best first, of scores
    from `threshold`. Raises InputError for a missing or damaged checkpoint or image, and for images whose results
    would overwrite each other or an image.
    """
    from otalab.viz.detections import save_detections  # drawing needs no import before there is a picture

    pictures = [out / f"{path.stem}.png" for path in images]
    clash = {p for p in pictures if pictures.count(p) > 1 or p.resolve() in {path.resolve() for path in images}}
    if clash:
        raise InputError(f"{min(clash)} would be overwritten; choose another folder, or images of different names")
    model, description = load_model(checkpoint, device)
    names = description["class_names"]
    for path, picture in zip(images, pictures, strict=True):
        pixels = read_image(path)
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            found = model([image.to(device)])[0]
        keep = found["scores"] >= threshold
        found = {name: value[keep].cpu() for name, value in found.items()}
        rows = [
            {"box": [round(v, 1) for v in box], "label": names[label], "score": round(score, 3)}
            for box, label, score in zip(*(found[n].tolist() for n in ("boxes", "labels", "scores")), strict=True)
        ]
        write_json(picture.with_suffix(".json"), rows)
        save_detections(picture, pixels, found, names)
        objects = ", ".join(f"{row['label']} {row['score']:.2f}" for row in rows[:5])
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        yield f"{path}: {objects or 'nothing'}{more} -> {picture}, .json"
