"""Costs as maps of the image: one map per supplier and level, one cell per anchor point."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from otalab.assign.types import AnchorPoints, Targets
from otalab.errors import InputError
from otalab.viz.boxes import draw_box
from otalab.viz.style import MUTED, PAPER, array, bare, chip, gt_colour, style, title_figure
from otalab.viz.transport import CHEAP_TO_DEAR, GREY


def draw_level_map(
    ax: Axes, points: AnchorPoints, values: Float[np.ndarray, " n"], level: int, scale: ScalarMappable
) -> Axes:
    """Draw the values (n,) of one level's points, which lie on a grid, as an image with a cell per point.

    `scale` gives the colours. One unit of the axes is one px.
    """
    (height, width), stride = points.grid.maps[level], points.grid.strides[level]
    cells = values[array(points.level) == level].reshape(height, width)
    extent = (0, width * stride, height * stride, 0)
    ax.imshow(scale.to_rgba(cells), extent=extent, interpolation="nearest")
    ax.set(xlim=extent[:2], ylim=extent[2:])
    bare(ax)
    return ax


@style()
def cost_maps(
    points: AnchorPoints,
    cost: Tensor | Float[np.ndarray, "m1 n"],
    targets: Targets,
    title: str,
    matched_gt: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw a map of costs for each supplier (columns, the background last) and level (rows). Dark cells are cheap.

    cost:       (m + 1, n), finite
    matched_gt: (n,) or None; a point that a gt gets has a dot in the colour of that gt

    All gts share a scale, which ends at the 25th percentile of their costs, because most gts and predicted boxes do not
    overlap at all. The background is much cheaper and has its own scale. Raises InputError if the points have no grid,
    if there is no gt, and if a cost is not finite.
    """
    if points.grid is None:
        raise InputError("a map needs points that lie on a grid; make them with AnchorPoints.for_image")
    cost, levels, suppliers = array(cost), len(points.grid.maps), len(cost)
    if suppliers < 2 or not np.isfinite(cost).all():
        faulty = int((~np.isfinite(cost)).sum())
        raise InputError(f"maps need a gt and finite costs; of {suppliers - 1} gts {faulty} costs are not finite")
    tops = float(np.percentile(cost[:-1], 25)), float(cost[-1].max())
    scales = [ScalarMappable(Normalize(0, max(top, 1e-9)), CHEAP_TO_DEAR) for top in tops]
    height = 9.9 * levels / suppliers + 1.15  # inches
    figure = Figure(figsize=(10.7, height), dpi=150)
    sides = {"left": 0.07, "right": 0.995, "bottom": 0.4 / height, "top": 1 - 0.75 / height}
    figure.subplots_adjust(**sides, wspace=0.06, hspace=0.06)
    title_figure(figure, title, 0.006, 0.2)
    axes = figure.subplots(levels, suppliers, squeeze=False)
    for (level, row), ax in np.ndenumerate(axes):
        background = row == suppliers - 1
        draw_level_map(ax, points, cost[row], level, scales[background])
        if not background:
            draw_box(ax, array(targets.boxes)[row], gt_colour(row), 1.4)
            if matched_gt is not None:
                xy = array(points.xy)[(array(matched_gt) == row) & (array(points.level) == level)]
                ax.scatter(xy[:, 0], xy[:, 1], s=22, c=gt_colour(row), edgecolors=PAPER, linewidths=0.8, zorder=6)
        if row == 0:
            ax.set_ylabel(f"stride {points.grid.strides[level]} px", fontsize=9)
        if level == 0:
            name = "background" if background else (names[row] if names is not None else "")
            ax.set_title(name, fontsize=9.5, fontweight="normal", loc="center", pad=6)
            number, fill = ("–", GREY) if background else (str(row + 1), gt_colour(row))
            chip(ax, 0.08, 1.1, number, fill, xycoords="axes fraction")
    note = "dark = 0, palest = {:.1f} or more (gts); {:.2g} (background, on its own scale)".format(*tops)
    figure.text(0.07, 0.12 / height, note, color=MUTED, fontsize=8.5)
    return figure
