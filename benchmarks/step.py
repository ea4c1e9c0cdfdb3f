"""How much longer a training step takes for its assignment, and for images of many sizes.

For assignment, the step is compared with the same step that uses recorded labels. For sizes, it is compared with the
same step on the same padded batches, with padding treated as part of the image.

python -m benchmarks.step [--rounds N] [--quick]
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.common import run, shown
from benchmarks.device import CPU
from benchmarks.training import Setting, as_dicts, frozen_detector, noise
from otalab.data import CLASS_NAMES, ShapesConfig
from otalab.detect import build_detector, detector
from otalab.detect.batches import epoch_keys
from otalab.detect.config import TrainConfig
from otalab.detect.detector import Detector
from otalab.detect.layout import place
from otalab.detect.optim import build_optimizer
from otalab.detect.padding import RealCells
from otalab.lab.simulate import simulate_scene
from otalab.lab.timing import Table, TableRow, Timer, column, limit_threads, paired

LEARN = 3  # steps before the labels are recorded


@dataclass(frozen=True)
class StepTiming(TableRow):
    """Median seconds of a step with and without assignment and of assignment alone; the median of the paired ratios."""

    way: str = column("way", "<40")
    seconds: float = column("step", ">10", ".4f")
    recorded_seconds: float = column("recorded", ">10", ".4f")
    assign_seconds: float = column("assign", ">10", ".4f")
    percent_longer: float = column("longer by", ">12", ".1f", " %")


def shapes_batch(image_size: int, batch_size: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images and targets of the shapes set, with objects scaled to the size of the images."""
    usual = ShapesConfig()
    ratio = image_size / usual.image_size
    config = ShapesConfig(image_size=image_size, min_size=usual.min_size * ratio, max_size=usual.max_size * ratio)
    scenes = [simulate_scene(config, [config.seed, 0, number]) for number in range(batch_size)]
    images, truths = map(list, zip(*scenes, strict=True))
    return images, as_dicts(truths)


def make_steps(backbone: str, image_size: int, batch_size: int, assigner: str) -> dict[str, Callable[[], None]]:
    """The step, the same step with recorded labels, and the assignment alone."""
    torch.manual_seed(0)
    model = place(build_detector(backbone, len(CLASS_NAMES), assigner), CPU).train()
    optimizer = build_optimizer(model, TrainConfig(lr=1e-4))
    images, targets = shapes_batch(image_size, batch_size)
    assign, seen = model.assign, []

    def recording(*scene):
        seen[:] = [scene, assign(*scene)]
        return seen[1]

    def step(labels: Callable) -> None:
        model.assign = labels
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(LEARN):
        step(recording)
    scene, recorded = seen
    return {
        "step": lambda: step(assign),
        "recorded": lambda: step(lambda *_: recorded),
        "assign": lambda: assign(*scene),
    }


def step_table(backbone: str, image_size: int, batch_size: int, timer: Timer) -> Table:
    """One row each for `ota` and `fcos`."""
    rows = []
    for assigner in ("ota", "fcos"):
        with limit_threads(1):
            steps = make_steps(backbone, image_size, batch_size, assigner)
        seconds = timer(steps)
        longer = paired(seconds["step"], seconds["recorded"])
        rows.append(StepTiming(assigner, *map(median, seconds.values()), 100 * (longer - 1)))
    return Table(backbone, f"{backbone}, {batch_size} images of {image_size} px", timer.rounds, rows)


@dataclass(frozen=True)
class PaddingTiming(TableRow):
    """Median seconds of an epoch of padded batches, and of the same epoch with padding treated as image."""

    way: str = column("way", "<40")
    seconds: float = column("epoch", ">10", ".4f")
    blind_seconds: float = column("no care", ">10", ".4f")
    percent_longer: float = column("longer by", ">12", ".1f", " %")


PHOTOS = [(240, 320)] * 9 + [(213, 320)] * 4 + [(320, 240)] * 4 + [(320, 213)] * 2 + [(180, 320)]  # (height, width) px


def random_sizes(num_images: int) -> list[tuple[int, int]]:
    """Sizes (height, width) of images, each side 72 to 160 px."""
    sizes = torch.randint(72, 161, (num_images, 2), generator=torch.Generator().manual_seed(0))
    return [(height, width) for height, width in sizes.tolist()]


def make_epochs(model: Detector, sizes: list[tuple[int, int]], config: TrainConfig) -> dict[str, Callable[[], None]]:
    """An epoch on images of those sizes, in the batches of training, and the same with padding treated as image."""
    model = place(model, CPU).train()
    optimizer = build_optimizer(model, config)
    images, targets = noise(sizes, 5, len(CLASS_NAMES))

    def epoch() -> None:
        for keys in epoch_keys(sizes, config, 0):
            optimizer.zero_grad()
            sum(model([images[i] for i, _ in keys], [targets[i] for i, _ in keys]).values()).backward()
            optimizer.step()

    def all_image(sizes, padded, device) -> RealCells:
        return RealCells([padded] * len(sizes), padded, device)

    def blind_epoch() -> None:
        with patch.object(detector, "RealCells", all_image):
            epoch()

    return {"epoch": epoch, "blind": blind_epoch}


def padding_table(quick: bool, timer: Timer) -> Table:
    """Rows for batches of similar shapes, for batches in random order, and for photos with frozen norms."""
    torch.manual_seed(0)
    drawn, photos, few = random_sizes(4 if quick else 128), PHOTOS[8:16:4] if quick else PHOTOS, PHOTOS[5:13]
    classes, of_drawn, of_photos = len(CLASS_NAMES), TrainConfig(lr=1e-6), TrainConfig(batch_size=8, lr=1e-6)
    mobilenet, resnet = (frozen_detector(Setting(name, classes=classes)) for name in ("mobilenet_v2", "resnet50"))
    ways = {
        "tiny, like shapes": (build_detector("tiny", classes), drawn, of_drawn),
        "tiny, as they come": (build_detector("tiny", classes), drawn, replace(of_drawn, group=False)),
        "mobilenet_v2, photos": (mobilenet, photos, of_photos),
        "resnet50, photos": (resnet, photos if quick else few, of_photos),
    }
    rows = []
    for way, parts in ways.items():
        seconds = timer(make_epochs(*parts))
        longer = paired(seconds["epoch"], seconds["blind"])
        rows.append(PaddingTiming(way, *map(median, seconds.values()), 100 * (longer - 1)))
    name = f"{len(drawn)} images of 72 to 160 px a side, batches of 16; photos of 320 px, batches of 8, frozen norms"
    return Table("padding", name, timer.rounds, rows)


def tables(timer: Timer, quick: bool) -> list[Table]:
    """Tables of steps for a detector of usual size and for the smallest; then a table of padding."""
    settings = [("tiny", 96, 2)] if quick else [("resnet18", 320, 8), ("tiny", 128, 16)]
    steps = [shown(step_table(*setting, timer)) for setting in settings]
    return [*steps, shown(padding_table(quick, timer))]


if __name__ == "__main__":
    sys.exit(run("step", __doc__.splitlines()[0], tables))
