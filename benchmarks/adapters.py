"""How much longer a step takes in another framework with one of our assigners than with the framework's own rule.

python -m benchmarks.adapters [--rounds N] [--quick]   # Ultralytics' table needs it: build/adapters/bin/python
"""

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.common import run, shown
from benchmarks.training import noise
from otalab.lab.timing import Table, TableRow, Timer, column, paired

CLASSES, GTS = 80, 20


@dataclass(frozen=True)
class AdapterTiming(TableRow):
    """Median and least seconds of a step, and how much longer it takes than with the framework's own rule.

    `percent_longer` comes from the median of the paired ratios, `least_percent_longer` from the least seconds.
    """

    way: str = column("way", "<40")
    seconds: float = column("median", ">10", ".4f")
    least_seconds: float = column("least", ">10", ".4f")
    percent_longer: float = column("longer by", ">12", ".1f", " %")
    least_percent_longer: float = column("of the least", ">14", ".1f", " %")


def step_of(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """A training step without an optimiser: forward, losses and backward."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def torchvision_steps(size: int) -> dict[str, Callable[[], None]]:
    """Steps of FCOS-ResNet-50 on one image, with torchvision's own matching and with `ota`."""
    from torchvision.models.detection import fcos_resnet50_fpn

    from otalab.adapters.torchvision import use_assigner

    torch.manual_seed(0)
    own = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES + 1, min_size=size, max_size=size)
    models = {"its own matching": own.train(), "ota": use_assigner(copy.deepcopy(own), "ota").train()}
    images, targets = noise([(size, size)], GTS, CLASSES)
    return {way: step_of(m, lambda m=m: sum(m(images, targets).values())) for way, m in models.items()}


def ultralytics_steps(size: int, num_images: int) -> dict[str, Callable[[], None]]:
    """Steps of YOLO11n from scratch, with TAL (its own assigner) and with `ota`."""
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import DEFAULT_CFG

    from otalab.adapters.ultralytics import use_assigner

    torch.manual_seed(0)
    own = DetectionModel("yolo11n.yaml", nc=CLASSES, verbose=False)
    own.args = DEFAULT_CFG
    models = {"TAL": own.train(), "ota": use_assigner(copy.deepcopy(own), "ota").train()}
    images, targets = noise([(size, size)] * num_images, GTS, CLASSES)
    boxes = torch.cat([t["boxes"] for t in targets]) / size
    content = {
        "img": torch.stack(images),
        "batch_idx": torch.arange(num_images).repeat_interleave(GTS).float(),
        "cls": torch.cat([t["labels"] for t in targets]).float()[:, None],
        "bboxes": torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), dim=1),
    }
    return {way: step_of(m, lambda m=m: m.loss(content)[0].sum()) for way, m in models.items()}


def adapter_table(name: str, task: str, timer: Timer, steps: dict[str, Callable[[], None]]) -> Table:
    """One row per way; the first way must be the framework's own rule."""
    seconds = timer(steps)
    first = seconds[next(iter(steps))]
    rows = [
        AdapterTiming(way, median(s), min(s), 100 * (paired(s, first) - 1), 100 * (min(s) / min(first) - 1))
        for way, s in seconds.items()
    ]
    return Table(name, task, timer.rounds, rows)


def tables(timer: Timer, quick: bool) -> list[Table]:
    """Tables for torchvision's FCOS, and for Ultralytics' YOLO11n if Ultralytics is installed."""
    size, yolo, images = (64, 64, 1) if quick else (512, 640, 4)
    task = f"FCOS-ResNet-50, one image of {size} px, {GTS} gts"
    found = [shown(adapter_table("torchvision", task, timer, torchvision_steps(size)))]
    if importlib.util.find_spec("ultralytics"):
        task = f"YOLO11n, {images} images of {yolo} px, {GTS} gts each"
        found.append(shown(adapter_table("ultralytics", task, timer, ultralytics_steps(yolo, images))))
    return found


if __name__ == "__main__":
    sys.exit(run("adapters", __doc__.splitlines()[0], tables))
