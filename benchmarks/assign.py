"""Label assignment as a whole, from logits to labels, beside the textbook way.

python -m benchmarks.assign [--rounds N] [--quick]
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cases import SMALL, pile
from benchmarks.common import run, shown
from benchmarks.device import HostWaits
from otalab.assign import Assigner, Assignment, build_assigner
from otalab.lab.simulate import Scene, make_scene
from otalab.lab.timing import (
    Table,
    TableRow,
    Timer,
    assign_table,
    column,
    textbook,
    textbook_cost,
    textbook_sinkhorn,
    timings,
)
from otalab.transport.sinkhorn import log_sum_exp

OTHERS = ("ota-official", "fcos")
SLOW_ROUNDS = 3  # at most, where the textbook takes ten seconds or more


def batch_table(images: list[Scene], timer: Timer) -> Table:
    """Time a batch in one call, and loops over its images."""
    ota = build_assigner("ota")
    ways: dict[str, Callable] = {
        "a loop of textbooks": lambda: [textbook(*scene) for scene in images],
        "the same, exponents clamped at -80": lambda: [textbook(*scene, log_sum_exp=log_sum_exp) for scene in images],
        "a loop of ota": lambda: [ota(*scene) for scene in images],
        "ota, assign_batch": lambda: assign_batch(ota, images),
    }
    task = f"{len(images)} images, each {images[0]}"
    return Table(f"batch of {len(images)}", task, timer.rounds, timings(timer(ways)))


def assign_batch(assigner: Assigner, images: list[Scene]) -> list[Assignment]:
    """Assign all images in one call; they share the anchor points."""
    return assigner.assign_batch(images[0].points, [s.predictions for s in images], [s.targets for s in images])


def deficit_table(scene: Scene, timer: Timer) -> Table:
    """Time an image whose gts want more points than their priors hold, also with Sinkhorn on a given cost matrix."""
    drop, relax = build_assigner("ota"), build_assigner("ota", deficits="relax")
    cost, supply = textbook_cost(*scene)
    missing = int(drop(*scene).deficit.sum())
    ways = {
        "the textbook's Sinkhorn alone, its matrix given": lambda: textbook_sinkhorn(cost, supply),
        "the same, exponents clamped at -80": lambda: textbook_sinkhorn(cost, supply, log_sum_exp),
        "textbook: (m, n, C) losses, 50 full Sinkhorn iterations": lambda: textbook(*scene),
        "ota, deficits='drop', from the logits": lambda: drop(*scene),
        "ota, deficits='relax', from the logits": lambda: relax(*scene),
    }
    task = f"one image, {scene}, {missing} labels more than the priors hold"
    return Table("deficit", task, timer.rounds, timings(timer(ways)))


@dataclass(frozen=True)
class Ops(TableRow):
    """Number of operations that PyTorch dispatches in one call, in total and per image."""

    way: str = column("way", "<58")
    ops: int = column("ops", ">10")
    images: int

    @classmethod
    def head(cls) -> str:
        return f"{super().head()}{'an image':>11}"

    def __str__(self) -> str:
        return f"{super().__str__()}{self.ops / self.images:>11.1f}"


def count_ops(call: Callable[[], object]) -> int:
    """Number of operations that a call dispatches."""
    with HostWaits() as seen:
        call()
    return seen.operations


def ops_table(images: list[Scene]) -> Table:
    """Count the operations for one image, for a batch, and for a loop over the images of the batch."""
    ota = build_assigner("ota")
    ways = {
        "ota, one image": (lambda: ota(*images[0]), 1),
        f"ota, assign_batch of {len(images)}": (lambda: assign_batch(ota, images), len(images)),
        f"ota, a loop over {len(images)}": (lambda: [ota(*scene) for scene in images], len(images)),
    }
    rows = [Ops(way, count_ops(call), number) for way, (call, number) in ways.items()]
    return Table("operations", f"each image {images[0]}", 0, rows)


def tables(timer: Timer, quick: bool) -> list[Table]:
    """Tables for few gts, many gts, a batch and a deficit, and the numbers of operations."""
    size = SMALL if quick else {}
    some, many, crowd, number = (4, 8, 24, 2) if quick else (20, 100, 40, 8)
    images = [make_scene(some, seed=seed, **size) for seed in range(16)]
    few = timer.at_most(SLOW_ROUNDS)
    return [
        shown(assign_table(f"{some} gts", make_scene(some, **size), timer, OTHERS)),
        shown(assign_table(f"{many} gts", make_scene(many, **size), few, OTHERS)),
        shown(batch_table(images[:number], few)),
        shown(deficit_table(pile(crowd, **size), timer)),
        shown(ops_table(images)),
    ]


if __name__ == "__main__":
    sys.exit(run("assign", __doc__.splitlines()[0], tables))
