"""Execute notebooks and rewrite their outputs: `python -m notebooks.execute notebooks/*.ipynb`.

A notebook is written back whole or not at all: not when a cell fails. The line of its first cell that says how long it
takes is set to what it took.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from otalab.files import write_whole
from otalab.viz.microscope import WIDGET

TAKES = re.compile(r"About [^,\n]* on two CPU cores")
LONGEST = 3600  # seconds that a cell may take


def execute(notebook: NotebookNode, folder: Path) -> float:
    """Run all cells in `folder`, in order, in a fresh kernel; outputs land in the notebook. Returns the seconds.

    Raises CellExecutionError for the first cell that fails.
    """
    start = time.perf_counter()
    where = {"metadata": {"path": str(folder)}}
    options = {"kernel_name": "python3", "record_timing": False, "coalesce_streams": True}  # however slowly they print
    NotebookClient(notebook, timeout=LONGEST, resources=where, **options).execute()
    return time.perf_counter() - start


def tidy(notebook: NotebookNode, seconds: float) -> None:
    """Leave out what differs from run to run or from machine to machine, and say how long it took."""
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    notebook.cells[0].source = TAKES.sub(f"About {duration(seconds)} on two CPU cores", notebook.cells[0].source)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)  # its model ended with the kernel; the picture beside it stays


def duration(seconds: float) -> str:
    """Seconds as a reader wants to know them: "20 seconds", "1.5 minutes"."""
    if seconds < 50:
        return f"{max(10, 10 * round(seconds / 10))} seconds"
    minutes = max(1, round(seconds / 30) / 2)
    return f"{minutes:g} minute{'s' * (minutes > 1)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Execute each; 1 if a cell failed."""
    flags = argparse.ArgumentParser(prog="python -m notebooks.execute", description=__doc__.splitlines()[0])
    flags.add_argument("notebooks", nargs="+", type=Path, help="files to execute and rewrite")
    status = 0
    for path in flags.parse_args(argv).notebooks:
        notebook = nbformat.read(path, as_version=4)
        try:
            seconds = execute(notebook, path.parent)
        except CellExecutionError as error:
            print(f"{path}: {error}", file=sys.stderr)
            status = 1
            continue
        tidy(notebook, seconds)
        with write_whole(path) as temporary:
            nbformat.write(notebook, temporary)
        print(f"{path}: {seconds:.0f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
