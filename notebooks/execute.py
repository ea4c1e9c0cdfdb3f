"""Execute notebooks and rewrite their outputs: `python -m notebooks.execute notebooks/*.ipynb`.

A notebook is written back whole or not at all, and not if a cell fails. The first cell says how long the notebook
takes; that time is replaced with the measured one.
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
LONGEST = 3600  # seconds after which a cell times out


def execute(notebook: NotebookNode, folder: Path) -> float:
    """Run all cells in order, in a fresh kernel whose working directory is `folder`, and return the seconds it took.

    The outputs are put into `notebook`. Raises CellExecutionError at the first cell that fails.
    """
    start = time.perf_counter()
    where = {"metadata": {"path": str(folder)}}
    options = {"kernel_name": "python3", "record_timing": False, "coalesce_streams": True}  # same output at any speed
    NotebookClient(notebook, timeout=LONGEST, resources=where, **options).execute()
    return time.perf_counter() - start


def tidy(notebook: NotebookNode, seconds: float) -> None:
    """Remove from a notebook whatever differs between runs or machines, and write how long it took."""
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
                output.get("data", {}).pop(WIDGET, None)  # the widget ended with the kernel; its picture stays


def duration(seconds: float) -> str:
    """Format seconds as a rounded time, such as "20 seconds" or "1.5 minutes"."""
    if seconds < 50:
        return f"{max(10, 10 * round(seconds / 10))} seconds"
    minutes = max(1, round(seconds / 30) / 2)
    return f"{minutes:g} minute{'s' * (minutes > 1)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Execute and rewrite each notebook. Returns 1 if a cell failed, else 0."""
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
