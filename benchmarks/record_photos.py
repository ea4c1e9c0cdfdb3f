"""Record the figures of a run on photos for lesson 12: `python -m benchmarks.record_photos RUN --data FOLDER`.

A committed notebook can neither train on photos live nor show any. So a run's figures are written to
otalab/lessons/recorded/real_photos.json, from which the lesson reads them. The file has no photo in it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from otalab.detect.checkpoint import load_model
from otalab.detect.evaluate import evaluate, open_split
from otalab.files import to_json, write_whole
from otalab.lab.photos import measure, rounded
from otalab.lessons.lesson12 import RECORD


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a run and write the record."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.record_photos", description=__doc__.splitlines()[0])
    flags.add_argument("run", type=Path, help="folder of a trained run")
    flags.add_argument("--data", type=Path, required=True, help="the COCO-format folder that it was trained on")
    flags.add_argument("--out", type=Path, default=RECORD, help="file to write (default: the lesson's)")
    flags.add_argument("--resamples", type=int, default=200, help="for the intervals (default: %(default)s)")
    a = flags.parse_args(argv)
    record = measure(a.run, a.data, a.resamples, progress=True)
    model, description = load_model(a.run)
    heldout = open_split(a.data, "val", description["class_names"])
    other = {size: evaluate(model, heldout, size)["AP"] for size in (1, 16)}
    record["AP_of_batch_size"] = rounded(other | {record["run"]["batch_size"]: record["metrics"]["AP"]})
    with write_whole(a.out) as temporary:
        temporary.write_text(to_json(record).replace("}, {", "},\n{").replace('], "', '],\n"') + "\n")
    print(f"AP {record['metrics']['AP']:.3f} on {record['data']['val']['images']} images -> {a.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
