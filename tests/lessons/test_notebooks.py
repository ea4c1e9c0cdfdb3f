"""The lessons run from top to bottom, keep to their form, and their exercises tell right answers from none."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from notebooks.execute import LONGEST, TAKES
from otalab.lessons import Verdict

FOLDER = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
names = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:2])


# Lessons that train for minutes or draw long films take seconds here: that each cell runs does not depend on it.
SHORTER = {
    "07": {
        "moments = [1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200, 300, 500,": "moments = [1, 30, 300,",
        "for seed in range(30)] for a in starts]": "for seed in range(1)] for a in starts]",
        "classes=80) for seed in range(30)]": "classes=80) for seed in range(1)]",
    },
    "09": {
        "(0, 1000), lesson09.easy_scenes(1, 100)": "(0, 24), lesson09.easy_scenes(1, 8)",
        "STEPS, BATCH, PEAK = 900, 16,": "STEPS, BATCH, PEAK = 40, 4,",
        'assert metrics["AP"] >= 0.4': 'assert metrics["AP"] >= 0.0',
    },
    "10": {
        "SEEDS, few = range(30)": "SEEDS, few = range(4)",
        "STEPS, BATCH, PEAK = 80, 8,": "STEPS, BATCH, PEAK = 20, 2,",
        "for seed in range(3)] for start": "for seed in range(1)] for start",
        "for seed in range(2):\n    longer": "for seed in range(1):\n    longer",
    },
    "11": {
        'names = ("ota", "fcos", "atss", "simota")': 'names = ("ota", "fcos")',
        "train=320, val=160": "train=8, val=24",
        "seeds=3": "seeds=2",
        '"epochs": 5': '"epochs": 1',
        "processes=2, progress=False": "processes=1, progress=False",
    },
    "12": {
        '"runs/lesson12/shapes", 400, 128': '"runs/lesson12/shapes", 24, 24',
        "progress=False), 12": "progress=False), 1",
    },
}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def shortened(path: Path) -> nbformat.NotebookNode:
    """The notebook, its training cut short."""
    notebook = read(path)
    for long, short in SHORTER.get(path.stem[:2], {}).items():
        (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and long in cell.source)
        cell.source = cell.source.replace(long, short)
    return notebook


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def printed(cell) -> str:
    """The text that a cell shows."""
    parts = [o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.outputs]
    return "".join(parts)


@names
def test_a_lesson_has_the_form_of_a_lesson(path):
    notebook = read(path)
    first = notebook.cells[0].source
    assert re.match(rf"# {path.stem[:2]} .*\?\n", first), "opens with the question that it answers"
    assert TAKES.search(first), "says how long it takes"
    assert len(notebook.cells) <= 40 and path.stat().st_size <= 2**20
    assert "import otalab" in notebook.cells[1].source and "%pip install" in notebook.cells[1].source
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert not re.search(r"import \*|\.cuda\(|pyplot|shared/", code)
    assert tagged(notebook, "exercise") and len(tagged(notebook, "check")) >= 1
    assert f"solutions/{path.stem[:2]}.py" in "".join(cell.source for cell in notebook.cells)


@names
def test_committed_outputs_are_whole_and_in_order(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert all(output.output_type != "error" for output in cell.outputs)
    for cell in cells:
        for output in cell.outputs:
            for kind in {"image/png", "image/gif"} & output.get("data", {}).keys():
                assert len(output.metadata.get(kind, {}).get("alt", "")) > 30, "a figure has an alternative text"


@pytest.fixture(scope="session")
def run_cells():
    """`run_cells(notebook, folder)`: run all cells there. Lessons share a kernel: importing PyTorch takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        for setting in ("OTALAB_COCO", "OTALAB_LESSON_EPOCHS"):
            patch.delenv(setting, raising=False)
        # like the other tests: the threads of two kernels side by side spin at barriers, and take six times as long
        patch.setenv("OMP_NUM_THREADS", "1")
        client = NotebookClient(nbformat.v4.new_notebook(), timeout=LONGEST, kernel_name="python3")

        def run(notebook: nbformat.NotebookNode, folder: Path) -> None:
            forget = nbformat.v4.new_code_cell(f"__import__('os').chdir({str(folder)!r})\n%reset -f")
            client.nb = nbformat.v4.new_notebook(cells=[forget, *notebook.cells])
            for number, cell in enumerate(client.nb.cells):
                client.execute_cell(cell, number)

        with client.setup_kernel():
            yield run


@pytest.mark.slow
@names
def test_all_cells_run_and_the_exercise_waits_for_an_answer(path, run_cells, tmp_path):
    notebook = shortened(path)
    run_cells(notebook, tmp_path)
    for cell in tagged(notebook, "check"):
        assert printed(cell).startswith("✗"), "the stub does not pass"


@names
def test_the_solution_passes(path, solution):
    said = solution(path.stem[:2])["verdict"]
    assert isinstance(said, Verdict) and said.passed, said


@names
def test_the_checker_gives_a_hint_for_no_answer_and_a_reason_for_the_right_one(path):
    (cell, *_) = tagged(read(path), "check")
    assert len(printed(cell)) > 25
