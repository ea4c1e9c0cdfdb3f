"""The simulated images that the benchmarks assign, and their cost matrices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from otalab import boxes as box_ops
from otalab.assign import Targets
from otalab.lab.simulate import Scene, make_scene, simulate_predictions
from otalab.lab.timing import textbook_cost
from otalab.transport import TransportProblem

SMALL = {"size": (256, 320), "num_classes": 8}  # for --quick


@dataclass(frozen=True)
class Case:
    """Cost matrices of images, (B, m + 1, n) float32, with off-prior pairs at about 1e6, and supplies (B, m + 1)."""

    name: str
    task: str
    cost: Float[Tensor, "B m1 n"]
    supply: Float[Tensor, "B m1"]

    def problem(self, off_prior: float = 1e6) -> TransportProblem:
        cost = self.cost if off_prior == 1e6 else torch.where(self.cost > 5e5, off_prior, self.cost)
        return TransportProblem(cost, self.supply, torch.ones_like(cost[:, 0]))


def make_case(name: str, scenes: Sequence[Scene]) -> Case:
    """Stack the cost matrices of images that have equal numbers of gts."""
    parts = [matrix(scene) for scene in scenes]
    task = f"{len(scenes)} image{'s' * (len(scenes) > 1)}, {scenes[0]}"
    return Case(name, task, *(torch.stack(part) for part in zip(*parts, strict=True)))


def matrix(scene: Scene, at_once: int = 10) -> tuple[Float[Tensor, "m1 n"], Float[Tensor, " m1"]]:
    """`textbook_cost`, computed for a few gts at a time to keep the (m, n, C) losses small."""
    points, predictions, targets = scene
    costs, supplies = [], []
    for start in range(0, len(targets), at_once):
        part = slice(start, start + at_once)
        some = replace(targets, boxes=targets.boxes[part], labels=targets.labels[part])
        cost, supply = textbook_cost(points, predictions, some)
        costs.append(cost[:-1])
        supplies.append(supply[:-1])
    k = torch.cat(supplies)
    return torch.cat([*costs, cost[-1:]]), torch.cat((k, (len(points) - k.sum())[None]))


def pile(num_gt: int, seed: int = 0, **size) -> Scene:
    """A scene with all gts around one place, where together they want more points than their priors hold."""
    scene = make_scene(num_gt, seed=seed, **size)
    generator = torch.Generator().manual_seed(seed)
    centres = scene.points.xy.mean(dim=0) + 4 * torch.randn(num_gt, 2, generator=generator)
    boxes = scene.targets.boxes
    shift = (centres - box_ops.centres(boxes)).repeat(1, 2)
    targets = Targets(boxes + shift, scene.targets.labels)
    classes = scene.predictions.logits.shape[1]
    return Scene(scene.points, simulate_predictions(scene.points, targets, classes, generator), targets)


def scenes(quick: bool) -> dict[str, list[Scene]]:
    """Images by name: 20 and 100 gts, a crowd, an untrained detector, a deficit, and a batch of 8."""
    size = SMALL if quick else {}
    some, many, crowd, piled, images = (4, 8, 12, 24, 2) if quick else (20, 100, 200, 40, 8)
    return {
        f"{some} gts": [make_scene(some, **size)],
        f"{many} gts": [make_scene(many, **size)],
        f"crowd of {crowd}": [make_scene(crowd, crowd=1.0, **size)],
        "untrained": [make_scene(some, skill=0.0, **size)],
        "deficit": [pile(piled, **size)],
        f"batch of {images}": [make_scene(some, seed=seed, **size) for seed in range(images)],
    }
