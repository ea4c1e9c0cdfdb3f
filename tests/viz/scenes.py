"""Small scenes and their assignments for the tests of the figures."""

import io
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from otalab.assign import AnchorPoints, Assignment, Predictions, Targets, build_assigner
from otalab.lab.simulate import simulate_predictions

NAMES = ("cat", "dog", "owl")


class Scene(NamedTuple):
    image: Tensor
    points: AnchorPoints
    predictions: Predictions
    targets: Targets


def scene(num_gt: int = 3, ignore: bool = False, strides: tuple[int, ...] = (8, 16)) -> Scene:
    """A grey image of 64 px with up to three overlapping gts and, if asked for, an ignore region."""
    boxes = torch.tensor([[4.0, 4, 34, 34], [20, 14, 52, 44], [30, 30, 62, 62]])[:num_gt]
    ignored = torch.tensor([[40.0, 0, 64, 12]]) if ignore else None
    targets = Targets(boxes, torch.arange(3)[:num_gt], ignored)
    points = AnchorPoints.for_image((64, 64), strides)
    if num_gt:
        predictions = simulate_predictions(points, targets, 3, torch.Generator().manual_seed(0), skill=0.9)
    else:
        predictions = Predictions(torch.zeros(len(points), 3), points.boxes())
    return Scene(torch.full((3, 64, 64), 0.4), points, predictions, targets)


def assigned(scene: Scene, name: str = "ota", **options) -> Assignment:
    """The scene's labels by that assigner."""
    return build_assigner(name, **options)(scene.points, scene.predictions, scene.targets)


def axes() -> Axes:
    """Axes of a figure of their own."""
    return Figure(figsize=(4, 3)).subplots()


def rendered(figure: Figure) -> np.ndarray:
    """The figure as pixels, (H, W, 4) uint8; pytest turns a warning on the way into an error."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=figure.dpi)
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    pixels = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    return pixels.reshape(-1, width, 4) if pixels.size % (width * 4) == 0 else pixels.reshape(height, -1, 4)


def texts(figure: Figure) -> set[str]:
    """Everything that is written on a figure."""
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}
