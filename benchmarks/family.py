"""How long every assigner takes for one image, beside `ota`.

python -m benchmarks.family [--rounds N] [--quick]
"""

import sys
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.cases import SMALL
from benchmarks.common import run, shown
from otalab.assign import ASSIGNERS, build_assigner
from otalab.lab.simulate import Scene, make_scene
from otalab.lab.timing import Table, TableRow, Timer, column, paired


@dataclass(frozen=True)
class FamilyTiming(TableRow):
    """Median seconds of an assigner, and its time relative to that of `ota`, by the median of paired ratios."""

    way: str = column("assigner", "<20")
    seconds: float = column("seconds", ">10", ".5f")
    times_ota: float = column("as long as ota", ">18", ".2f", "x")


def family_table(name: str, scene: Scene, timer: Timer) -> Table:
    """One row per assigner, `ota` first."""
    seconds = timer({way: partial(build_assigner(way), *scene) for way in ASSIGNERS})
    rows = [FamilyTiming(way, median(took), paired(took, seconds["ota"])) for way, took in seconds.items()]
    return Table(name, f"one image, {scene}", timer.rounds, rows)


def tables(timer: Timer, quick: bool) -> list[Table]:
    """Tables for few gts and for many."""
    size = SMALL if quick else {}
    return [
        shown(family_table(f"{num_gt} gts", make_scene(num_gt, **size), timer))
        for num_gt in ((4, 8) if quick else (20, 100))
    ]


if __name__ == "__main__":
    sys.exit(run("family", __doc__.splitlines()[0], tables))
