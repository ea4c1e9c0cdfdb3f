"""The README's first picture: `python -m docs.pictures.hero OUT.png [--checkpoint runs/demo]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from otalab.assign import AnchorPoints, Predictions, build_assigner
from otalab.cli.flag_parts import picture
from otalab.data.scene import CLASS_NAMES, ShapesConfig
from otalab.errors import InputError
from otalab.lab.simulate import simulate_predictions, simulate_scene
from otalab.viz.output import save_figure
from otalab.viz.story import assignment_story, finding
from otalab.viz.transport import candidate_columns

# chosen by eye from about a thousand seeds: overlapping objects of several classes, none cut by the image border
SCENE = ShapesConfig(
    crowd=0.9, min_objects=5, max_objects=5, min_size=24.0, max_size=50.0, texture=0.25, noise=1.5, min_visible=0.45
)
SEED = 229


def hero(checkpoint: str | Path | None = None, seed: int = SEED) -> Figure:
    """Draw OTA's labels for a crowded scene, with predictions of a checkpoint or, without one, simulated predictions.

    The picture says which. Raises InputError if the checkpoint cannot be read or was trained on other classes.
    """
    image, targets = simulate_scene(SCENE, seed)
    if checkpoint is None:
        points = AnchorPoints.for_image(tuple(image.shape[-2:]), strides=(8, 16, 32))
        generator = torch.Generator().manual_seed(seed)
        predictions = simulate_predictions(points, targets, len(CLASS_NAMES), generator)
        note = "simulated"
    else:
        points, predictions = checkpoint_predictions(checkpoint, image)
        note = "a trained detector's"
    assignment = build_assigner("ota")(points, predictions, targets)
    note = f"Synthetic scene; predictions: {note}."
    columns = candidate_columns(assignment, points)
    headline = finding(assignment, columns) + ", at the least total cost"  # true because `ota` is exact
    return assignment_story(image, points, assignment, targets, CLASS_NAMES, headline, note)


def checkpoint_predictions(path: str | Path, image: Tensor) -> tuple[AnchorPoints, Predictions]:
    """Anchor points and dense predictions of a saved detector for one image."""
    from otalab.detect.checkpoint import load_model  # only needed with a checkpoint

    model, description = load_model(Path(path))
    if description["class_names"] != list(CLASS_NAMES):
        known = ", ".join(description["class_names"])
        raise InputError(f"{path} knows the classes {known}; the picture needs {', '.join(CLASS_NAMES)}")
    with torch.inference_mode():
        points, predictions = model.predict([image])
    return points, predictions[0].detach()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the picture. Returns 0, or 2 for faulty input, with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m docs.pictures.hero", description=__doc__)
    parser.add_argument("out", type=picture, metavar="OUT.png", help="the picture to write")
    parser.add_argument("--checkpoint", help="model.safetensors, or the folder of a run, trained on shapes")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the scene (default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        save_figure(hero(options.checkpoint, options.seed), options.out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
