"""Verdicts, figures for notebooks, and the executor of notebooks."""

import io
import sys

import nbformat
import pytest
import torch
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from notebooks.execute import duration, execute, main, tidy
from otalab.assign import AnchorPoints, Targets
from otalab.lab.simulate import simulate_predictions
from otalab.lessons import Verdict, show, show_microscope
from otalab.viz.microscope import WIDGET


def test_a_verdict_shows_whether_an_answer_passed():
    assert repr(Verdict(True, "because")) == "✓ because"
    assert repr(Verdict(False, "think")) == "✗ think"


def test_a_figure_is_shown_as_an_image_with_an_alternative_text():
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], color="#D55E00")
    _, metadata = show(figure, alt="a line that rises")._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == "a line that rises"
    image = show(figure, alt="")
    assert Image.open(io.BytesIO(image.data)).size == (220, 110)


def scene():
    """Image, points, predictions and targets of two gts."""
    targets = Targets(torch.tensor([[4.0, 4, 34, 34], [20, 14, 52, 44]]), torch.arange(2))
    points = AnchorPoints.for_image((64, 64), strides=(8, 16))
    predictions = simulate_predictions(points, targets, 2, torch.Generator().manual_seed(0))
    return torch.full((3, 64, 64), 0.5), points, predictions, targets


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_microscope_is_sliders_and_a_picture_with_an_alternative_text():
    data, metadata = show_microscope(*scene(), alt="six settings of one scene")._repr_mimebundle_()
    assert data.keys() == {"text/plain", "image/png", WIDGET} and data[WIDGET]["model_id"]
    assert metadata["image/png"]["alt"] == data["text/plain"] == "six settings of one scene"


def test_without_ipywidgets_the_microscope_is_the_picture_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    data, metadata = show_microscope(*scene(), alt="six settings of one scene")._repr_mimebundle_()
    assert data.keys() == {"text/plain", "image/png"}
    assert metadata["image/png"]["alt"] == "six settings of one scene"


def lesson(folder, source: str, name: str = "00_test.ipynb"):
    cells = [new_markdown_cell("# 00 Does it run?\nAbout 9 hours on two CPU cores, no GPU."), new_code_cell(source)]
    path = folder / name
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_executing_writes_outputs_and_the_time_that_it_took(tmp_path, capsys):
    path = lesson(tmp_path, "import sys\nprint(6 * 7)\nprint('noise', file=sys.stderr)")
    assert main([str(path)]) == 0
    notebook = nbformat.read(path, as_version=4)
    (output,) = notebook.cells[1].outputs
    assert output.text == "42\n" and notebook.cells[1].execution_count == 1
    assert "About 10 seconds on two CPU cores, no GPU." in notebook.cells[0].source
    assert f"{path}: " in capsys.readouterr().out
    before = path.read_text()
    assert main([str(path)]) == 0 and path.read_text() == before


LIVE = """
import io
import ipywidgets
from IPython.display import Image
from PIL import Image as Pixels
from otalab.viz.microscope import Live

png = io.BytesIO()
Pixels.new("RGB", (2, 1)).save(png, format="png")
Live(Image(png.getvalue(), alt="a dot"), ipywidgets.IntSlider())
"""


@pytest.mark.slow
def test_of_a_live_widget_the_picture_is_kept_and_no_model_that_is_gone(tmp_path):
    path = lesson(tmp_path, LIVE)
    notebook = nbformat.read(path, as_version=4)
    seconds = execute(notebook, tmp_path)
    (output,) = notebook.cells[1].outputs
    assert WIDGET in output.data, "a notebook that runs has the widget"
    tidy(notebook, seconds)
    (output,) = notebook.cells[1].outputs
    assert output.data.keys() == {"text/plain", "image/png"} and output.metadata["image/png"].alt == "a dot"
    assert "widgets" not in notebook.metadata


@pytest.mark.slow
def test_a_cell_that_fails_is_told_and_the_notebook_stays_as_it_was(tmp_path, capsys):
    path = lesson(tmp_path, "1 / 0")
    before = path.read_text()
    assert main([str(path)]) == 1
    assert path.read_text() == before
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.0, "10 seconds"),
        (24.0, "20 seconds"),
        (49.0, "50 seconds"),
        (55.0, "1 minute"),
        (85.0, "1.5 minutes"),
        (170.0, "3 minutes"),
    ],
)
def test_durations_are_told_in_round_figures(seconds, text):
    assert duration(seconds) == text
