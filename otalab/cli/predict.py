"""`otalab predict`: its flags, and what it does with them."""

import argparse
from pathlib import Path

from otalab.cli.faults import tell
from otalab.errors import InputError

DESCRIPTION = """Detect the objects of images: for each, the boxes as JSON and a picture with the boxes drawn in. Photos
are looked at upright, as viewers show them, and boxes are in px of the upright photo. For an image that cannot be
read a line says why, the others are still predicted, and the exit status is 2."""


def add_predict_flags(command: argparse.ArgumentParser) -> None:
    """The flags of `predict`."""
    command.description = DESCRIPTION
    add = command.add_argument
    add("checkpoint", help="a run's folder, or its model.safetensors")
    add("images", nargs="+", type=Path, help="image files")
    add(
        "--out",
        type=Path,
        default=Path("runs/predict"),
        help="folder for NAME.json and NAME.png (default: %(default)s)",
    )
    add("--threshold", type=float, default=0.45, help="least score to keep, 0..1 (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")


def run_predict(a: argparse.Namespace) -> int:
    """Predict, and say for each image what was found; the exit status."""
    from otalab.detect.device import pick_device
    from otalab.detect.predict import predict

    status = 0
    for said in predict(a.checkpoint, a.images, a.out, a.threshold, pick_device(a.device)):
        if isinstance(said, InputError):
            status = tell(said)
        else:
            print(said, flush=True)
    return status
