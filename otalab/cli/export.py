"""`otalab export`: write a detector for other programs, and print how closely the file reproduces its outputs."""

import argparse

from otalab.cli.main import tell
from otalab.detect.export import CheckFailed, export


def run(a: argparse.Namespace) -> int:
    """Export the detector. Returns 1 if the exported model does not compute what the detector does."""
    try:
        done = export(a.checkpoint, a.out, a.format, a.size, a.batch)
    except CheckFailed as failed:
        tell(failed)
        return 1
    print(f"{a.out}: images {done.images} -> boxes {done.boxes}, scores {done.scores}")
    print(
        f"checked on random images: boxes differ by at most {done.boxes_differ:.1g} px, scores by "
        f"{done.scores_differ:.1g} ({done.relative:.1g} of the largest)"
    )
    return 0
