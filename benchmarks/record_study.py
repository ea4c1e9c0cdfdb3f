"""The longer study of lesson 11: `python -m benchmarks.record_study`; writes otalab/lessons/recorded/study.json.

A run that was stopped goes on where it was.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from otalab.files import write_json
from otalab.lab.study import study
from otalab.lessons import lesson11


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and write the record."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.record_study", description=__doc__.splitlines()[0])
    flags.add_argument("--assigners", nargs="+", default=list(lesson11.KEPT))
    flags.add_argument("--seeds", type=int, default=5, help="seeds 0 to this (default: %(default)s)")
    flags.add_argument("--train", type=int, default=1000, help="training scenes (default: %(default)s)")
    flags.add_argument("--val", type=int, default=300, help="held-out scenes (default: %(default)s)")
    flags.add_argument("--epochs", type=int, default=5, help="passes over them (default: %(default)s)")
    flags.add_argument("--processes", type=int, default=2, help="runs side by side (default: %(default)s)")
    flags.add_argument("--out", type=Path, default=Path("runs/study"), help="(default: %(default)s)")
    given = flags.parse_args(argv)
    data = lesson11.crowd_set(given.out / "scenes", given.train, given.val)
    settings = lesson11.SETTINGS | {"epochs": given.epochs}
    runs = study(data, given.out, given.assigners, range(given.seeds), given.processes, **settings)
    write_json(
        lesson11.RECORD,
        {
            "command": f"python -m benchmarks.record_study --assigners {' '.join(given.assigners)} "
            f"--seeds {given.seeds} --train {given.train} --val {given.val} --epochs {given.epochs}",
            "train": given.train,
            "val": given.val,
            "epochs": given.epochs,
            "torch": torch.__version__,
            "runs": [asdict(run) for run in runs],
        },
    )
    print(f"{len(runs)} runs -> {lesson11.RECORD}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
