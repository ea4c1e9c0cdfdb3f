"""Which gts a run finds, by their size: on held-out photos, and on as many that it was trained on.

python -m benchmarks.found RUN --data FOLDER

A gt is found by a box of IoU 0.5 or more. What is found on training photos and missed on held-out ones was learnt by
heart: there is too little data. What is missed on both was not learnt at all.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from otalab.boxes import box_area
from otalab.data import CocoDataset
from otalab.detect.checkpoint import load_model
from otalab.detect.evaluate import detect, open_split
from otalab.errors import InputError
from otalab.lab.gt_bins import SIZE_EDGES, SIZES, found_gts
from otalab.lab.mistakes import as_tensors, by_image
from otalab.lab.photos import score_of
from otalab.lab.run_record import read_run


def found_by_size(truth: dict, results: Sequence[dict]) -> list[dict]:
    """Of the gts of each size: how many there are, and how many are found.

    best: by as many boxes as there are gts, those of the highest scores, with the gt's class. all, any class: by all
    boxes, however unsure; with the gt's class, or with any
    """
    gts = by_image(row for row in truth["annotations"] if not row.get("iscrowd"))
    score = score_of(sum(map(len, gts.values())), results)
    said, sure = by_image(results), by_image(row for row in results if row["score"] >= score)
    size, found = [], {"best": [], "all": [], "any class": []}
    for image, rows in gts.items():
        size += box_area(as_tensors(rows)[0]).sqrt().tolist()
        found["best"] += found_gts(rows, sure[image]).tolist()
        found["all"] += found_gts(rows, said[image]).tolist()
        found["any class"] += found_gts(rows, said[image], own=False).tolist()
    of = np.digitize(size, SIZE_EDGES)
    return [
        {"size": name, "gts": int((of == i).sum())}
        | {way: int(np.array(each, dtype=bool)[of == i].sum()) for way, each in found.items()}
        for i, name in enumerate(SIZES)
    ]


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
        own = {name: read_run(a.run).settings[name] for name in ("max_images", "background", "seed")}
        own["max_images"] = min(len(heldout), own["max_images"] or len(heldout))  # of a run on few photos all of them
        seen = CocoDataset.from_folder(a.data, "train", categories=names, **own)
    except InputError as error:
        flags.error(str(error))
    for name, split in {"held out": heldout, "trained on": seen}.items():
        rows = found_by_size(split.ground_truth(), detect(model, split, description["batch_size"], progress=False))
        print(f"{name}: {len(split)} images\n{'px':<12}{'gts':>6}{'best':>14}{'all':>14}{'any class':>14}")
        for row in rows:
            shares = (f"{row[way]} ({row[way] / max(1, row['gts']):.1%})" for way in ("best", "all", "any class"))
            print(f"{row['size']:<12}{row['gts']:>6}" + "".join(f"{share:>14}" for share in shares))
    return 0


if __name__ == "__main__":
    sys.exit(main())
