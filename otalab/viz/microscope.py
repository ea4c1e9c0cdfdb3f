"""The assignment microscope: change a setting of OTA and see how the labels change.

microscope(image, points, predictions, targets)  # sliders in Jupyter, needs ipywidgets
microscope_strip(image, points, predictions, targets)  # six settings as a figure, for print
"""

import html
from base64 import b64encode
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from otalab.assign import AnchorPoints, Cost, Predictions, RadiusPrior, Targets, build_assigner
from otalab.errors import InputError
from otalab.viz.boxes import draw_assignment, point_handles, ring_points, tally
from otalab.viz.output import as_png, show
from otalab.viz.style import INK, plural, style

WIDGET = "application/vnd.jupyter.widget-view+json"  # the mime type of live widgets


@dataclass(frozen=True)
class Knobs:
    """The settings that can be changed. The defaults are those of the authors' code.

    r:          radius of the centre prior, in strides
    alpha:      weight of the regression cost
    q:          number of IoUs summed for the dynamic k
    eps:        gamma of Sinkhorn, in units of cost
    iterations: T of Sinkhorn
    """

    r: float = 2.5
    alpha: float = 1.5
    q: int = 20
    eps: float = 0.1
    iterations: int = 50

    def assigners(self) -> tuple:
        """OTA with these knobs: solved by Sinkhorn, and solved exactly."""
        problem = {"prior": RadiusPrior(self.r), "cost": Cost(alpha=self.alpha), "q": self.q}
        soft = build_assigner("ota", solver="sinkhorn", eps=self.eps, max_iter=self.iterations, **problem)
        return soft, build_assigner("ota", **problem)


SLIDERS = {  # least, most, step; those of eps are of its decimal logarithm
    "r": (0.5, 5.0, 0.5),
    "alpha": (0.0, 6.0, 0.5),
    "q": (1, 40, 1),
    "eps": (-3.0, 1.0, 0.25),
    "iterations": (1, 200, 1),
}
STRIP = (
    ("the authors' knobs", {}),
    ("r 1: a narrow prior", {"r": 1.0}),
    ("q 5: few IoUs, small k", {"q": 5}),
    ("alpha 6: boxes matter most", {"alpha": 6.0}),
    ("eps 3: labels blur", {"eps": 3.0}),
    ("2 iterations: not there yet", {"iterations": 2}),
)


@style()
def microscope_figure(
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    predictions: Predictions,
    targets: Targets,
    knobs: Knobs | None = None,
) -> Figure:
    """Draw Sinkhorn's labels and the exact labels side by side. Points where they differ are ringed.

    `knobs` are the settings, those of the authors' code if None.
    """
    figure = Figure(figsize=(9.0, 4.9), dpi=110)
    axes = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.14, top=0.88, wspace=0.04)
    assignments = [assigner(points, predictions, targets) for assigner in (knobs or Knobs()).assigners()]
    off = assignments[0].matched_gt != assignments[1].matched_gt
    remarks = f", {plural(int(off.sum()), 'label')} off", ""
    for ax, assignment, name, remark in zip(axes, assignments, ("Sinkhorn", "exact"), remarks, strict=True):
        title = f"{name}: {plural(int(assignment.positive.sum()), 'positive')}{remark}"
        draw_assignment(ax, image, points, assignment, targets, title=title, legend=False)
        tally(ax, assignment.counts.tolist(), "gets")
    ring_points(axes[0], points, off)
    return figure


@style()
def microscope_strip(
    image: Tensor | np.ndarray, points: AnchorPoints, predictions: Predictions, targets: Targets
) -> Figure:
    """The microscope for print: Sinkhorn's labels for six settings, each but the first with one knob changed.

    Points whose label is not the exact one are ringed.
    """
    figure = Figure(figsize=(10.7, 8.0), dpi=110)
    axes = figure.subplots(2, 3).flatten()
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.1, top=0.94, wspace=0.05, hspace=0.22)
    for ax, (title, turned) in zip(axes, STRIP, strict=True):
        soft, exact = (assign(points, predictions, targets) for assign in replace(Knobs(), **turned).assigners())
        draw_assignment(ax, image, points, soft, targets, legend=False, numbered=False)
        ax.set_title(title, fontsize=10)
        off = soft.matched_gt != exact.matched_gt
        ring_points(ax, points, off)
        text = f"{plural(int(soft.positive.sum()), 'positive')}, {plural(int(off.sum()), 'label')} off the exact"
        ax.text(0, -0.03, text, transform=ax.transAxes, fontsize=8.5, va="top")
    ring = {"marker": "o", "ms": 8.4, "mfc": "none", "mec": INK, "label": "Sinkhorn's label is not the exact one"}
    handles = [*point_handles(axes[0], points), Line2D([], [], linestyle="", **ring)]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles))
    return figure


def microscope(image: Tensor | np.ndarray, points: AnchorPoints, predictions: Predictions, targets: Targets):
    """An ipywidgets box: sliders for r, alpha, q, eps and iterations above a `microscope_figure` that follows them.

    Raises InputError if ipywidgets is not installed. `microscope_strip` does not need it.
    """
    try:
        import ipywidgets
    except ImportError as error:
        raise InputError("the microscope needs ipywidgets (pip install ipywidgets); or see microscope_strip") from error

    start = vars(Knobs())
    kinds = {name: ipywidgets.IntSlider if isinstance(start[name], int) else ipywidgets.FloatSlider for name in start}
    kinds["eps"] = ipywidgets.FloatLogSlider
    sliders = {
        name: kinds[name](value=start[name], min=least, max=most, step=step, description=name, continuous_update=False)
        for name, (least, most, step) in SLIDERS.items()
    }
    view = ipywidgets.HTML()

    def draw(_=None) -> None:
        knobs = Knobs(**{name: slider.value for name, slider in sliders.items()})
        figure = microscope_figure(image, points, predictions, targets, knobs)
        alt = html.escape("; ".join(ax.get_title(loc="left") for ax in figure.axes), quote=True)
        png = b64encode(as_png(figure)).decode()
        view.value = f'<img style="max-width: 100%" alt="{alt}" src="data:image/png;base64,{png}">'

    for slider in sliders.values():
        slider.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([ipywidgets.HBox(list(sliders.values()), layout={"flex_flow": "row wrap"}), view])


class Live:
    """Shown as the widget while the notebook runs; as the picture if it is only read, or if there is no widget."""

    def __init__(self, picture, widget=None):
        self.picture, self.widget = picture, widget

    def _repr_mimebundle_(self, **_) -> tuple[dict, dict]:
        data, metadata = self.picture._repr_mimebundle_()
        if self.widget is not None:
            data |= {WIDGET: self.widget._repr_mimebundle_()[WIDGET]}
        return {"text/plain": self.picture.alt} | data, metadata


def show_microscope(image, points, predictions, targets, alt: str) -> Live:
    """Show the microscope's sliders where Jupyter and ipywidgets run, elsewhere `microscope_strip`.

    `alt` is the alternative text of the strip.
    """
    scene = (image, points, predictions, targets)
    strip = show(microscope_strip(*scene), alt)
    try:
        return Live(strip, microscope(*scene))
    except InputError:  # ipywidgets is not installed
        return Live(strip)
