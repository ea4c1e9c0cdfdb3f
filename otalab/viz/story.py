"""One picture of one assignment: the image, what each label costs, what was shipped, and who learns what."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from otalab.assign.types import AnchorPoints, Assignment, Targets
from otalab.viz.boxes import draw_assignment, draw_boxes, show_image
from otalab.viz.style import MUTED, plural, style
from otalab.viz.transport import candidate_columns, contested, draw_cost, draw_plan, gt_names


def assignment_story(
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    assignment: Assignment,
    targets: Targets,
    class_names: Sequence[str] | None = None,
    headline: str | None = None,
    note: str | None = None,
) -> Figure:
    """Image with gts, cost, plan and assigned points side by side, the gts in the same colours throughout.

    About 1600 x 600 px. `headline` replaces `finding`, `note` is set small beneath. Raises InputError for an assignment
    that no transport problem stands behind.
    """
    columns = candidate_columns(assignment, points)
    names = gt_names(targets, class_names)
    shipped, positive = int(assignment.supply[:-1].sum()), int(assignment.positive.sum())
    with style():
        figure = Figure(figsize=(10.7, 4.0), dpi=150)
        headline = headline or finding(assignment, columns)
        figure.text(0.006, 0.94, headline, fontsize=12.5, fontweight="bold", va="center")
        picture = figure.add_axes((0.006, 0.125, 0.2655, 0.71))
        cost = figure.add_axes((0.372, 0.53, 0.305, 0.305))
        plan = figure.add_axes((0.372, 0.125, 0.305, 0.305))
        labels = figure.add_axes((0.7285, 0.125, 0.2655, 0.71))
        show_image(picture, image)
        draw_boxes(picture, targets.boxes, numbered=True)
        draw_cost(cost, assignment, points, names, columns, show_k=False, show_levels=False)
        draw_plan(plan, assignment, points, None, columns)
        draw_assignment(labels, image, points, assignment, targets)
        cost.set_xlabel("")
        for ax, title in (
            (picture, f"{plural(len(targets), 'object')}, {plural(len(points), 'anchor point')}"),
            (cost, "Cost: dark is cheap, hatched is forbidden"),
            (plan, f"Plan: {plural(shipped, 'label')} shipped"),
            (labels, f"{plural(positive, 'point')} learn an object"),
        ):
            ax.set_title(title, fontsize=10, fontweight="normal")
        if note:
            figure.text(0.006, 0.03, note, color=MUTED, fontsize=8)
    return figure


def finding(assignment: Assignment, columns: np.ndarray) -> str:
    """What the picture shows, in a sentence; whether the plan is the cheapest is the caller's to say."""
    several = contested(assignment, columns)
    if several == 0:
        return "No point is wanted twice: every object has its candidate points to itself"
    return f"{plural(several, 'point')} could learn several objects; transport decides them all at once"
