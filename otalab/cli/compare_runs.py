"""`otalab compare`: training runs side by side, as a table and as a page."""

import argparse
from collections.abc import Mapping, Sequence

from otalab.errors import InputError, one_line
from otalab.lab.run_record import read_run, side_by_side
from otalab.viz.compare_runs import compare_report


def run(a: argparse.Namespace) -> None:
    if len(a.runs) < 2:
        raise InputError(f"compare needs two runs or more, not {len(a.runs)}")
    runs = [read_run(folder) for folder in a.runs]
    print(*table(side_by_side(runs)), sep="\n")
    print(f"\npage     {compare_report(runs).write(a.out)}")


def table(rows: Sequence[Mapping[str, object]], digits: int = 3) -> list[str]:
    """Format rows with the same keys as lines of text; the keys are the headings in the first line.

    digits: of a float, after the point
    """
    cells = [list(rows[0]), *([text(value, digits) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def text(value: object, digits: int) -> str:
    """Format a value for a table, on one line; None and NaN become a dash."""
    if value is None or value != value:  # NaN
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else one_line(value)
