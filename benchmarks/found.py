"""Which gts a run finds, by their size: on held-out photos, and on as many that it was trained on.

python -m benchmarks.found RUN --data FOLDER

A gt is found if a box of its class has IoU 0.5 or more with it. If the gts of a size are found on training photos but
missed on held-out ones, the detector has memorised its photos: there is too little data. If they are missed on both,
they were not learnt at all.
"""

import argparse
import sys
from collections.abc import Sequence

from otalab.detect.checkpoint import load_model
from otalab.detect.evaluate import detect, open_split
from otalab.errors import InputError
from otalab.lab.gt_bins import size_bins
from otalab.lab.photos import even_score, trained_on
from otalab.lab.run_record import read_run


def found_by_size(truth: dict, results: Sequence[dict]) -> list[tuple[str, int, float, float]]:
    """For each size with gts: its name, the number of gts, and two shares of gts that are found.

    The first share counts the best boxes alone, as many of the highest scores as there are gts in all. The second
    counts all boxes, whatever their scores.
    """
    score = even_score(truth, results)
    sure = [row for row in results if row["score"] >= score]
    pairs = zip(size_bins(truth, sure), size_bins(truth, results), strict=True)
    return [(few.name, few.gts, few.recall, many.recall) for few, many in pairs if few.gts]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each split."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.found", description=__doc__.splitlines()[0])
    flags.add_argument("run", help="folder of a trained run")
    flags.add_argument("--data", required=True, help="the COCO-format folder that it was trained on")
    a = flags.parse_args(argv)
    try:
        model, description = load_model(a.run)
        names = description["class_names"]
        heldout = open_split(a.data, "val", names)
        seen = trained_on(read_run(a.run), a.data, names, len(heldout))
    except InputError as error:
        flags.error(str(error))
    for name, split in {"held out": heldout, "trained on": seen}.items():
        results = detect(model, split, description["batch_size"], progress=False)
        print(f"{name}: {len(split)} images\n{'px':<12}{'gts':>6}{'best boxes':>12}{'all boxes':>12}")
        for size, gts, best, by_all in found_by_size(split.ground_truth(), results):
            print(f"{size:<12}{gts:>6}{best:>12.1%}{by_all:>12.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
