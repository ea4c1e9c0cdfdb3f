"""How much longer a training step takes for its assignment: beside the same step with labels that were recorded.

python -m benchmarks.step [--rounds N] [--quick]
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.common import run, shown
from otalab.data import CLASS_NAMES, ShapesConfig
from otalab.detect import build_detector
from otalab.detect.config import TrainConfig
from otalab.detect.layout import place
from otalab.detect.optim import build_optimizer
from otalab.lab.simulate import simulate_scene
from otalab.lab.timing import Table, Timer, one_thread

LEARN = 3  # steps before the labels are recorded


@dataclass(frozen=True)
class Setting:
    """A backbone, and the batch that it learns."""

    backbone: str
    image_size: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.backbone}, {self.batch_size} images of {self.image_size} px"


@dataclass(frozen=True)
class StepTiming:
    """Median seconds of a step with and without assignment; the median of the paired ratios; assignment by itself."""

    way: str
    seconds: float
    recorded_seconds: float
    assign_seconds: float
    percent_longer: float

    head: ClassVar[str] = f"{'way':<40}{'step':>10}{'recorded':>10}{'assign':>10}{'longer by':>12}"

    def __str__(self) -> str:
        times = f"{self.seconds:>10.4f}{self.recorded_seconds:>10.4f}{self.assign_seconds:>10.4f}"
        return f"{self.way:<40}{times}{self.percent_longer:>10.1f} %"


def shapes_batch(setting: Setting) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images and targets of the shapes set, its objects in proportion to the images."""
    config, ratio = ShapesConfig(), setting.image_size / ShapesConfig().image_size
    config = ShapesConfig(
        image_size=setting.image_size, min_size=config.min_size * ratio, max_size=config.max_size * ratio
    )
    images, targets = [], []
    for number in range(setting.batch_size):
        image, truth = simulate_scene(config, [config.seed, 0, number])
        images.append(image)
        targets.append({"boxes": truth.boxes, "labels": truth.labels})
    return images, targets


def make_steps(setting: Setting, assigner: str) -> dict[str, Callable[[], None]]:
    """The step, the same step with recorded labels, and the assignment by itself."""
    torch.manual_seed(0)
    model = place(build_detector(setting.backbone, len(CLASS_NAMES), assigner), torch.device("cpu")).train()
    optimizer = build_optimizer(model, TrainConfig(lr=1e-4))
    images, targets = shapes_batch(setting)
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


def step_table(setting: Setting, timer: Timer) -> Table:
    """A row for each assigner."""
    rows = []
    for assigner in ("ota", "fcos"):
        with one_thread():
            steps = make_steps(setting, assigner)
        seconds = timer(steps)
        longer = median(a / b for a, b in zip(seconds["step"], seconds["recorded"], strict=True))
        rows.append(StepTiming(assigner, *(median(seconds[way]) for way in steps), 100 * (longer - 1)))
    return Table(setting.backbone, str(setting), timer.rounds, rows)


def tables(timer: Timer, quick: bool) -> list[Table]:
    """A detector of everyday size, and the smallest."""
    settings = [Setting("tiny", 96, 2)] if quick else [Setting("resnet18", 320, 8), Setting("tiny", 128, 16)]
    return [shown(step_table(setting, timer)) for setting in settings]


if __name__ == "__main__":
    sys.exit(run("step", __doc__.splitlines()[0], tables))
