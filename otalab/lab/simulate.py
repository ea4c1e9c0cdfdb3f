"""Simulated scenes and predictions, as in the middle of a training run, for tests and timings."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign import AnchorPoints, Predictions, Targets
from otalab.checks import require
from otalab.data.scene import ShapesConfig, draw_scene
from otalab.errors import InputError


def simulate_scene(config: ShapesConfig, seed: int | Sequence[int]) -> tuple[Float[Tensor, "3 h w"], Targets]:
    """Draw a scene of the shapes set; returns the image in 0..1 and its gts. Raises InputError for a negative seed."""
    if np.min(seed) < 0:
        raise InputError(f"seed is {seed}; it must be at least 0")
    scene = draw_scene(config, np.random.default_rng(seed))
    image = torch.from_numpy(scene.image).permute(2, 0, 1) / 255
    return image, Targets(torch.from_numpy(scene.boxes), torch.from_numpy(scene.labels))


def random_targets(
    size: tuple[int, int], num_gt: int, num_classes: int, generator: torch.Generator, crowd: float = 0.5
) -> Targets:
    """Draw `num_gt` boxes in an image of `size` (height, width) px.

    Their sides are log-uniform between 2 % and 60 % of the image's shorter side. A share `crowd` of the boxes is placed
    around one spot, so that gts compete for points. Boxes are clipped to the image. A box that then has a side below
    1 px is replaced by a square of 16 px (or of the image's shorter side, if that is less) in the middle of the image.
    Raises InputError for a negative number of gts and for fewer than one class.
    """
    require("be a whole number of at least 0", num_gt=num_gt)
    require("be a whole number of at least 1", num_classes=num_classes)
    height, width = size
    side = min(size) * 0.02 * 30 ** torch.rand(num_gt, 2, generator=generator)  # 2 % .. 60 %
    extent = torch.tensor([width, height], dtype=torch.float32)
    centre = torch.rand(num_gt, 2, generator=generator) * extent
    place = torch.rand(2, generator=generator) * extent * 0.6 + extent * 0.2
    crowded = int(num_gt * crowd)
    centre[:crowded] = place + 0.1 * min(size) * torch.randn(crowded, 2, generator=generator)
    boxes = torch.cat((centre - side / 2, centre + side / 2), dim=1)
    boxes = torch.minimum(boxes.clamp(min=0), extent.repeat(2))
    tiny = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) < 1  # clipped almost away, or too small because the image is
    half = min(16, *size) / 2
    boxes[tiny] = torch.cat((extent / 2 - half, extent / 2 + half))
    labels = torch.randint(num_classes, (num_gt,), generator=generator)
    return Targets(boxes, labels)


def simulate_predictions(
    points: AnchorPoints, targets: Targets, num_classes: int, generator: torch.Generator, skill: float = 0.6
) -> Predictions:
    """Predictions that a detector of `skill` (0 untrained .. 1 perfect) might make at each point.

    A point inside a gt predicts its sides and its class, more accurately the higher the skill. A point inside several
    gts predicts one of them, drawn uniformly at random: no rule for overlaps is built in, neither that of FCOS (the
    smallest gt) nor another. The other points predict boxes of a few strides, and no class.
    """
    n = len(points)
    noise = torch.rand(n, 4, generator=generator)
    sides = points.stride[:, None] * (0.5 + 4 * noise)  # (n, 4), px
    logits = -4 + 0.5 * torch.randn(n, num_classes, generator=generator)
    if len(targets):
        truth = box_ops.ltrb(points.xy, targets.boxes[:, None])  # (m, n, 4)
        lot = torch.rand(truth.shape[:2], generator=generator).where(truth.amin(dim=-1) > 0, -1)  # (m, n)
        drawn, owner = lot.max(dim=0)
        inside = drawn >= 0
        owner, truth = owner[inside], truth[owner[inside], inside.nonzero().squeeze(1)]
        jitter = torch.exp((1 - skill) * torch.randn(len(owner), 4, generator=generator))
        sides[inside] = truth * jitter
        certain = 5 * skill * torch.rand(len(owner), generator=generator)
        logits[inside.nonzero().squeeze(1), targets.labels[owner]] += certain
    return Predictions(logits, box_ops.around(points.xy, sides), torch.zeros(n))


class Scene(NamedTuple):
    """One image to assign."""

    points: AnchorPoints
    predictions: Predictions
    targets: Targets

    def __str__(self) -> str:
        classes = self.predictions.logits.shape[1]
        return f"{len(self.targets)} gts, {classes} classes, {len(self.points)} points"


def make_scene(
    num_gt: int,
    size: tuple[int, int] = (800, 1344),
    num_classes: int = 80,
    skill: float = 0.6,
    crowd: float = 0.5,
    seed: int = 0,
) -> Scene:
    """Random gts and predictions for them, as in the middle of training by default, or untrained with `skill` 0."""
    generator = seeded(seed)
    points = AnchorPoints.for_image(size)
    targets = random_targets(size, num_gt, num_classes, generator, crowd)
    return Scene(points, simulate_predictions(points, targets, num_classes, generator, skill), targets)


def seeded(seed: int) -> torch.Generator:
    """A generator with that seed. Raises InputError for a seed below 0 or from 2**63 on."""
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; it must be at least 0 and less than 2**63")
    return torch.Generator().manual_seed(seed)
