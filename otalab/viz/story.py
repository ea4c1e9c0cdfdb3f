"""Figures of one image in several panels: the story of one assignment, and the labels of many assigners."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from otalab.assign.types import AnchorPoints, Assignment, Targets
from otalab.lab.compare_assigners import FamilyComparison, Row
from otalab.viz.boxes import dot_sizes, draw_assignment, draw_boxes, ring_points, show_image
from otalab.viz.style import INK, MUTED, array, image_array, plural, style, title_figure
from otalab.viz.transport import candidate_columns, contested, draw_cost, draw_plan, gt_names

WIDTH = 2.3  # of a panel of `family_figure`, in inches
MOST_NAMED = 8  # up to so many gts, tags give the class; more text would hide the image


@style()
def assignment_story(
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    assignment: Assignment,
    targets: Targets,
    class_names: Sequence[str] | None = None,
    headline: str | None = None,
    note: str | None = None,
) -> Figure:
    """Draw an assignment from left to right: image with gts, cost above plan, and assigned points.

    The gts have the same colours throughout. The figure is about 1600 x 600 px. `headline` replaces the `finding`, and
    `note` is set small beneath. Raises InputError if the assignment has gts but solves no transport problem.
    """
    columns = candidate_columns(assignment, points)
    names = gt_names(targets, class_names)
    figure = Figure(figsize=(10.7, 4.0), dpi=150)
    title_figure(figure, headline or finding(assignment, columns), 0.006, 0.24)
    figure.text(0.006, 0.03, note or "", color=MUTED, fontsize=8)
    picture = show_image(figure.add_axes((0.006, 0.125, 0.2655, 0.71)), image)
    draw_boxes(picture, targets.boxes, numbered=True)
    picture.set_title(f"{plural(len(targets), 'object')}, {plural(len(points), 'anchor point')}")
    cost = figure.add_axes((0.372, 0.53, 0.305, 0.305))
    title = "Cost: dark is cheap, hatched is forbidden"
    draw_cost(cost, assignment, points, names, columns, title, show_k=False, show_levels=False).set_xlabel("")
    draw_plan(figure.add_axes((0.372, 0.125, 0.305, 0.305)), assignment, points, None, columns)
    title = f"{plural(int(assignment.positive.sum()), 'point')} learn an object"
    labels = figure.add_axes((0.7285, 0.125, 0.2655, 0.71))
    draw_assignment(labels, image, points, assignment, targets, title=title)
    for ax in figure.axes:
        ax.set_title(ax.get_title(loc="left"), fontsize=10, fontweight="normal")
    return figure


def finding(assignment: Assignment, columns: np.ndarray) -> str:
    """Say in a sentence what the story shows. It makes no claim that the plan is the cheapest: a caller may add it."""
    several = contested(assignment, columns)
    if several == 0:
        return "No point is wanted twice: every object has its candidate points to itself"
    return f"{plural(several, 'point')} could learn several objects; transport decides them all at once"


@style()
def family_figure(
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    targets: Targets,
    family: FamilyComparison,
    class_names: Sequence[str] | None = None,
    note: str | None = None,
) -> Figure:
    """Draw the image with its gts, then a panel with the labels of each assigner.

    Each gt has one colour, and ambiguous points are ringed. Beneath each panel stand the number of positives, the
    agreement with the optimum, and the gts without a positive. `note` is set small beneath the figure.
    """
    height, width = image_array(image).shape[:2]
    panels = 1 + len(family.assignments)
    columns = min(panels, 4 if panels <= 12 else 6)
    rows = -(-panels // columns)
    high = WIDTH * min(max(height / width, 0.5), 1.6)  # of a panel, in inches; its caption takes 0.8 more
    figure = Figure(figsize=(max(columns, 3) * WIDTH + 0.2, rows * (high + 0.8) + 0.75), dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    inch = 1 / figure.get_figheight()
    space = {"bottom": 0.75 * inch, "top": 1 - 0.72 * inch, "wspace": 0.05, "hspace": 0.8 / high}
    figure.subplots_adjust(left=0.01, right=0.99, **space)
    title_figure(figure, family_finding(family), 0.01, 0.2)
    show_image(axes[0], image)
    named = {} if len(targets) > MOST_NAMED else {"labels": targets.labels, "class_names": class_names}
    draw_boxes(axes[0], targets.boxes, numbered=True, linewidth=1.6, fontsize=6.5, **named)
    axes[0].set_title(plural(len(targets), "object"), fontsize=10)
    summary = {row.name: row for row in family.rows}
    ambiguous = array(family.ambiguous)
    for ax, (name, assignment) in zip(axes[1:], family.assignments.items(), strict=False):
        draw_assignment(ax, image, points, assignment, targets, legend=False, numbered=False)
        ax.set_title(name, fontsize=10)
        ring_points(ax, points, ambiguous, np.minimum(dot_sizes(ax, points)[ambiguous] + 1.4, 5.1), linewidth=0.5)
        caption(ax, summary[name], line=0.16 / high)
    for ax in axes[panels:]:
        ax.set_visible(False)
    remark = f"Rings: {plural(len(ambiguous), 'ambiguous point')}, in the centre priors of several objects."
    figure.text(0.01, 0.14 * inch, remark + (f" {note}" if note else ""), fontsize=8, color=MUTED)
    return figure


def family_finding(family: FamilyComparison) -> str:
    """Say in a line what `family_figure` shows."""
    counts = [row.positives for row in family.rows if row.fault is None]
    if not counts:
        return "No assigner takes this image"
    starving, refusing = sum(bool(row.empty) for row in family.rows), len(family.rows) - len(counts)
    text = f"{len(counts)} assigners, the same predictions: {min(counts)} to {max(counts)} positives"
    return text + f"; {starving} leave an object without any" * (starving > 0) + f"; {refusing} refuse" * (refusing > 0)


def caption(ax: Axes, row: Row, line: float) -> None:
    """Write beneath a panel its positives, its agreement with the optimum, and the gts without a positive.

    `line` is the height of a line of text as a fraction of the height of a panel.
    """
    small = {"transform": ax.transAxes, "fontsize": 8, "va": "top"}
    text = f"{plural(row.positives, 'positive')}, {row.agreement:.0%} as the optimum"
    ax.text(0, -0.3 * line, text, color=MUTED, **small)
    if row.empty:
        named = ", ".join(str(i + 1) for i in row.empty[:6]) + ", ..." * (len(row.empty) > 6)
        ax.text(0, -1.5 * line, f"none for {named}", color=INK, weight="bold", **small)
