"""`otalab predict`: detect objects, and print what was found in each image."""

import argparse

from otalab.cli.main import tell
from otalab.data.find_images import find_images
from otalab.detect.device import pick_device
from otalab.detect.predict import predict
from otalab.errors import InputError


def run(a: argparse.Namespace) -> int:
    """Predict all images. One at fault is reported, the others are still predicted, and the exit status is then 2."""
    status = 0
    for said in predict(a.checkpoint, find_images(a.images), a.out, a.threshold, pick_device(a.device)):
        if isinstance(said, InputError):
            status = tell(said)
        else:
            print(said, flush=True)
    return status
