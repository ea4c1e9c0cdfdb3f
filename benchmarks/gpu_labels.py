"""Whether every assigner finds the same labels on a GPU as on the CPU: a table of `benchmarks.gpu`."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor, nn

from benchmarks.device import CPU, attempt, failed_last
from benchmarks.training import predictions_to, targets_to
from otalab.assign import ASSIGNERS, Assignment, build_assigner
from otalab.lab.simulate import Scene, make_scene
from otalab.lab.timing import Table, TableRow, column

SOFT = ("score", "label_weight", "box_weight")


@dataclass(frozen=True)
class Labels(TableRow):
    """How the device's labels differ from the CPU's, in number and in effect.

    points   number of points compared
    differ   number of points with different labels
    images   number of images with such a point
    dearer   the largest relative excess in cost of the device's labels over the CPU's, both by the CPU's cost matrix.
             It is about 0 if the choice was between ties. None for an assigner without a cost
    weights  the largest difference of a point's score or weight; None for an assigner without these
    """

    way: str = column("assigner", "<20")
    points: int = column("points", ">10", ",")
    differ: int = column("differ", ">9")
    images: int = column("in images", ">11")
    dearer: float | None = column("dearer by", ">11", ".1e")
    weights: float | None = column("weights", ">11", ".1e")


def labels_table(device: torch.device, quick: bool) -> Table:
    """One row per assigner."""
    scenes = varied_scenes(quick)
    rows = [attempt(name, partial(labels_row, name, scenes, device)) for name in ASSIGNERS]
    return Table("labels", f"{len(scenes)} images assigned on the CPU and on {device.type}", 0, failed_last(rows))


def varied_scenes(quick: bool) -> list[Scene]:
    """Ten images with 1 to 30 gts, sparse to crowded, untrained to well trained; the last two are of full size."""
    if quick:
        return [make_scene(1 + i, (96, 128), 8, skill=i % 4 * 0.3, crowd=i % 3 / 2, seed=i) for i in range(10)]
    gts = (1, 2, 4, 7, 10, 14, 20, 30, 7, 20)
    sizes = [(480, 640)] * 8 + [(800, 1344)] * 2
    settings = enumerate(zip(gts, sizes, strict=True))
    return [make_scene(m, size, skill=i % 4 * 0.3, crowd=i % 3 / 2, seed=i) for i, (m, size) in settings]


def labels_row(name: str, scenes: list[Scene], device: torch.device) -> Labels:
    """Assign all images on the CPU and on the device, and compare the labels."""
    differ, dearer, weights = [], [], []
    for scene in scenes:
        own, theirs = assign_on(CPU, name, scene), assign_on(device, name, scene)
        labels = theirs.matched_gt.to(CPU)
        differ.append(int((own.matched_gt != labels).sum()))
        if own.cost is not None:
            least = total(own.cost, own.matched_gt)
            dearer.append((total(own.cost, labels) - least) / abs(least))
        pairs = [(getattr(own, kind), getattr(theirs, kind)) for kind in SOFT]
        weights += [float((mine - other.to(CPU)).abs().max()) for mine, other in pairs if mine is not None]
    images, points = sum(map(bool, differ)), sum(len(scene.points) for scene in scenes)
    largest = (max(found, key=abs, default=None) for found in (dearer, weights))
    return Labels(name, points, sum(differ), images, *largest)


def assign_on(device: torch.device, name: str, scene: Scene) -> Assignment:
    """Assign one image on the device."""
    points, predictions, targets = scene
    assigner = build_assigner(name).for_classes(predictions.logits.shape[1])
    if isinstance(assigner, nn.Module):  # it has parameters
        assigner.to(device)
    return assigner(points.to(device), predictions_to(predictions, device), targets_to(targets, device))


def total(cost: Tensor, labels: Int[Tensor, " n"]) -> float:
    """The cost of labels by a cost matrix (m + 1, n), whose last row is the background's."""
    owner = torch.where(labels >= 0, labels, len(cost) - 1)
    return float(cost.gather(0, owner[None]).double().sum())
