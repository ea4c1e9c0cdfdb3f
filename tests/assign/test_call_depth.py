"""Labels and losses are reached in few steps: a reader who follows them passes few files and functions."""

import sys
from pathlib import Path

import pytest
import torch

import otalab
from otalab.assign import Targets, build_assigner
from otalab.detect import build_detector
from otalab.detect.losses import detection_losses

from .cases import make_case

PACKAGE = Path(otalab.__file__).parent


def passed_through(call) -> tuple[set[str], set[tuple[str, str]]]:
    """The package's files and functions that run in a call; comprehensions are no functions."""
    seen = set()

    def look(frame, event, _):
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
        if event == "call" and path.is_relative_to(PACKAGE) and not name.endswith(">"):
            seen.add((str(path.relative_to(PACKAGE)), name))

    call()  # what is made once and kept is no step
    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return {path for path, _ in seen}, seen


@pytest.mark.parametrize("scene", ["normal", "crowd"])
def test_the_labels_of_an_image_are_eight_files_and_25_functions_away(scene):
    case, assigner = make_case(0, scene=scene), build_assigner("ota")
    files, functions = passed_through(lambda: assigner(*case))
    assert len(files) <= 8, sorted(files)
    assert len(functions) <= 25, sorted(functions)


def test_the_losses_of_a_training_step_are_eleven_files_and_40_functions_away():
    model = build_detector("tiny", num_classes=3, assigner="ota").train()
    generator = torch.Generator().manual_seed(0)
    points, predictions = model.predict([torch.rand(3, 64, 64, generator=generator) for _ in range(2)])
    targets = [Targets(torch.tensor([[8.0, 8.0, 40.0, 48.0]]), torch.tensor([1]))] * 2
    files, functions = passed_through(
        lambda: detection_losses(predictions, targets, model.assign(points, predictions, targets))
    )
    assert len(files) <= 11, sorted(files)
    assert len(functions) <= 40, sorted(functions)
