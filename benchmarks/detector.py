"""otalab's detector beside torchvision's FCOS, folded norms beside frozen ones, and assignment's share of a step.

python -m benchmarks.detector [--rounds N] [--quick]
"""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.common import run, shown
from benchmarks.device import CPU
from benchmarks.training import Setting, frozen_detector, noise, step_of, torchvision_fcos
from otalab.detect.layout import place
from otalab.lab.timing import Table, TableRow, Timer, column, limit_threads, paired


@dataclass(frozen=True)
class Ratio(TableRow):
    """The median figure of one way, and how many times the first row's it is, by the median of paired ratios."""

    way: str = column("way", "<44")
    value: float = column("value", ">12", ".3f")
    times: float = column("ratio", ">10", ".2f", "x")


@dataclass(frozen=True)
class Share(TableRow):
    """Median seconds of a training step and of its assignment, and the share of the assignment."""

    way: str = column("way", "<44")
    seconds: float = column("step", ">12", ".3f")
    assign_seconds: float = column("assign", ">10", ".4f")
    percent: float = column("share", ">10", ".2f", " %")


def our_fcos(backbone: str = "resnet50", assigner: str = "fcos") -> nn.Module:
    """A detector with frozen norms and first layers, as with pretrained weights, but its weights are random."""
    return place(frozen_detector(Setting(backbone), assigner), CPU)


def plain(backbone: str, fold: bool = False) -> nn.Module:
    """The same detector with torchvision's ReLU6, and with its frozen norms as layers unless they are folded."""
    with patch("otalab.detect.backbone.LeanReLU6", nn.ReLU6):
        if fold:
            return our_fcos(backbone)
        with patch("otalab.detect.backbone.fold_frozen_norms", lambda body: None):
            return our_fcos(backbone)


def make_inference(model: nn.Module, images: list[Tensor]) -> Callable[[], None]:
    """A call that turns the images into detections."""

    @torch.inference_mode()
    def infer() -> None:
        model.eval()
        model(images)

    return infer


def make_way(way: str, task: str, size: int) -> Callable[[], None]:
    """A training step or an inference on two images, by "torchvision" or "otalab"."""
    model = torchvision_fcos(Setting(size=(size, size)), CPU) if way == "torchvision" else our_fcos()
    images, targets = noise([(size, size)] * 2)
    return step_of(model, images, targets, amp=False) if task == "training" else make_inference(model, images)


def peak_memory(way: str, task: str, size: int) -> float:
    """Peak memory in GB of this process, which does the task three times and nothing else."""
    with limit_threads(1):
        work = make_way(way, task, size)
        for _ in range(3):
            work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def memory_table(size: int) -> Table:
    """Measure the peak memory of each way and task, each in its own process.

    This table must be the first, because a new process counts the memory of its parent as its own peak.
    """
    rows = []
    for task in ("training", "inference"):
        peaks = {}
        for way in ("torchvision", "otalab"):
            with get_context("spawn").Pool(1) as fresh:
                peaks[way] = fresh.apply(peak_memory, (way, task, size))
        rows += [Ratio(f"{way}, {task}, GB", peak, peak / peaks["torchvision"]) for way, peak in peaks.items()]
    return Table("peak memory", f"FCOS-ResNet-50, 2 images of {size} px", 1, rows)


def speed_table(size: int, timer: Timer) -> Table:
    """Images per second of torchvision and otalab.

    Inference is measured first, as in a process that only detects. After training, malloc holds memory that would spare
    torchvision's passes over feature maps their page faults.
    """
    rows = []
    for task in ("inference", "training"):
        seconds = timer({way: make_way(way, task, size) for way in ("torchvision", "otalab")})
        first = seconds["torchvision"]
        rows += [Ratio(f"{way}, {task}, images/s", 2 / median(s), paired(first, s)) for way, s in seconds.items()]
    return Table("torchvision", f"FCOS-ResNet-50, 2 images of {size} px", timer.rounds, rows)


def fold_table(size: tuple[int, int], number: int, timer: Timer) -> Table:
    """Time a training step with torchvision's layers, with frozen norms folded, and with a leaner ReLU6 as well."""
    name = "mobilenet_v2"
    models = {"torchvision's layers": plain(name), "norms folded": plain(name, fold=True)}
    models["norms folded, ReLU6 without copies"] = our_fcos(name)
    seconds = timer({way: step_of(model, *noise([size] * number), amp=False) for way, model in models.items()})
    first = seconds["torchvision's layers"]
    rows = [Ratio(f"{way}, steps/s", 1 / median(s), paired(first, s)) for way, s in seconds.items()]
    return Table("folding", f"mobilenet_v2, {number} images of {size[0]}x{size[1]} px", timer.rounds, rows)


def share_table(size: tuple[int, int], timer: Timer) -> Table:
    """The share of a training step that `ota` takes for assignment."""
    model, spent = our_fcos(assigner="ota"), []
    assign = model.assign

    def timed(*scene):
        start = timer.clock()
        found = assign(*scene)
        spent.append(timer.clock() - start)
        return found

    model.assign = timed
    (seconds,) = timer({"ota": step_of(model, *noise([size] * 2), amp=False)}).values()
    step, labels = median(seconds), median(spent[1:])  # the first step warms up
    row = Share("ota", step, labels, 100 * labels / step)
    return Table("assignment", f"FCOS-ResNet-50, 2 images of {size[0]}x{size[1]} px", timer.rounds, [row])


def tables(timer: Timer, quick: bool) -> list[Table]:
    """Memory first, see `memory_table`; then speed compared with torchvision, folding, and assignment's share."""
    size, small, large = (64, (48, 64), (64, 96)) if quick else (512, (240, 320), (800, 1344))
    return [
        shown(memory_table(size)),
        shown(speed_table(size, timer)),
        shown(fold_table(small, 2 if quick else 8, timer)),
        shown(share_table(large, timer.at_most(3))),
    ]


if __name__ == "__main__":
    sys.exit(run("detector", __doc__.splitlines()[0], tables))
