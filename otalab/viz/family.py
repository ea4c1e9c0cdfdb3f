"""Many assigners on one image, a panel each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from otalab.assign.types import AnchorPoints, Targets
from otalab.lab.compare_assigners import FamilyComparison, Row
from otalab.viz.boxes import dot_sizes, draw_assignment, draw_boxes, ring_points, show_image
from otalab.viz.style import INK, MUTED, array, plural, style

WIDTH = 2.3  # of a panel, in inches
MOST_NAMED = 8  # gts whose tag says their class; more would hide the image


def family_figure(
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    targets: Targets,
    family: FamilyComparison,
    class_names: Sequence[str] | None = None,
    note: str | None = None,
) -> Figure:
    """The image with its gts, then each assigner's labels: one colour a gt, ambiguous points ringed.

    Beneath each panel: its positives, and the gts it leaves empty. `note` is set small beneath the picture.
    """
    height, width = array(image).shape[-2:] if array(image).shape[0] == 3 else array(image).shape[:2]
    panels = 1 + len(family.assignments)
    columns = min(panels, 4 if panels <= 12 else 6)
    rows = -(-panels // columns)
    panel = WIDTH * min(max(height / width, 0.5), 1.6) + 0.8
    with style():
        figure = Figure(figsize=(max(columns, 3) * WIDTH + 0.2, rows * panel + 0.75), dpi=150)
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        inch = 1 / figure.get_figheight()
        figure.subplots_adjust(
            left=0.01, right=0.99, bottom=0.75 * inch, top=1 - 0.72 * inch, wspace=0.05, hspace=0.8 / (panel - 0.8)
        )
        figure.text(
            0.01, 1 - 0.2 / figure.get_figheight(), headline(family), fontsize=12.5, fontweight="bold", va="center"
        )
        show_image(axes[0], image)
        named = {} if len(targets) > MOST_NAMED else {"labels": targets.labels, "class_names": class_names}
        draw_boxes(axes[0], targets.boxes, numbered=True, linewidth=1.6, fontsize=6.5, **named)
        axes[0].set_title(f"{plural(len(targets), 'object')}", fontsize=10)
        summary = {row.name: row for row in family.rows}
        for ax, (name, assignment) in zip(axes[1:], family.assignments.items(), strict=False):
            draw_assignment(ax, image, points, assignment, targets, title=name, legend=False, numbered=False)
            ax.set_title(name, fontsize=10)
            ring(ax, points, family)
            caption(ax, summary[name], line=0.16 / (panel - 0.8))
        for ax in axes[1 + len(family.assignments) :]:
            ax.set_visible(False)
        remark = f"Rings: {plural(len(family.ambiguous), 'ambiguous point')}, in the centre priors of several objects."
        figure.text(0.01, 0.14 * inch, " ".join([remark] + [note] * (note is not None)), fontsize=8, color=MUTED)
    return figure


def headline(family: FamilyComparison) -> str:
    """What the picture shows, in a line."""
    counts = [row.positives for row in family.rows if row.fault is None]
    if not counts:
        return "No assigner takes this image"
    starving = sum(bool(row.empty) for row in family.rows)
    text = f"{len(counts)} assigners, the same predictions: {min(counts)} to {max(counts)} positives"
    if starving:
        text += f"; {starving} leave an object without any"
    if len(counts) < len(family.rows):
        text += f"; {len(family.rows) - len(counts)} refuse"
    return text


def ring(ax: Axes, points: AnchorPoints, family: FamilyComparison) -> None:
    """Mark the points that several gts may claim."""
    index = array(family.ambiguous)
    ring_points(ax, points, index, np.minimum(dot_sizes(ax, points)[index] + 1.4, 5.1), linewidth=0.5)


def caption(ax: Axes, row: Row, line: float) -> None:
    """Beneath the panel: positives, agreement, and who goes without; `line` is the height of one, in panels."""
    text = f"{plural(row.positives, 'positive')}, {row.agreement:.0%} as the optimum"
    ax.text(0, -0.3 * line, text, transform=ax.transAxes, fontsize=8, color=MUTED, va="top")
    if row.empty:
        named = ", ".join(str(i + 1) for i in row.empty[:6]) + ", ..." * (len(row.empty) > 6)
        ax.text(
            0, -1.5 * line, f"none for {named}", transform=ax.transAxes, fontsize=8, color=INK, va="top", weight="bold"
        )
