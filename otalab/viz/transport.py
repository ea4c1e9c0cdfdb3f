"""Figures of the transport problem: cost and plan, restricted to the anchor points that can become positive.

Rows are suppliers (gts in their colours, the background last), and columns are anchor points. Both matrices show the
same columns in the same order, so that each cost can be compared with the label that was shipped for it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.patches import Rectangle
from torch import Tensor

from otalab.assign.types import AnchorPoints, Assignment, Targets
from otalab.errors import InputError
from otalab.viz.style import HATCH, INK, MUTED, PAPER, array, bare, chip, gt_colour, plural

FORBIDDEN = 100.0
"""A route that costs this or more is forbidden: +inf, or the constant that an assigner adds outside the prior."""

CHEAP_TO_DEAR = LinearSegmentedColormap.from_list("otalab.cost", ["#2b3340", "#6b7685", "#aeb6c2", "#dde1e7"])
GREY = "#7d8591"  # labels that the background ships
LINE = "#d5d9df"  # lines between cells
MOST_LINED = 120  # columns; with more of them, lines between columns would hide the cells


def candidate_columns(assignment: Assignment, points: AnchorPoints | None = None) -> Int[np.ndarray, " c"]:
    """Indices (c,) of the anchor points that at least one gt may supply, at a cost below FORBIDDEN.

    They are sorted by level if `points` are given, then by owner (gts in order, the background last), then by the gt
    for which they are cheapest, then by index. Raises InputError if the assignment has gts but solves no transport
    problem.
    """
    cost = matrix(assignment, "cost")[:-1]
    columns = np.flatnonzero((cost < FORBIDDEN).any(axis=0))
    level = array(points.level)[columns] if points is not None else np.zeros(len(columns), dtype=np.int64)
    matched = array(assignment.matched_gt)[columns]
    owner = np.where(matched >= 0, matched, len(cost))
    cheapest = cost[:, columns].argmin(axis=0) if len(columns) else owner
    return columns[np.lexsort((cheapest, owner, level))]  # stable, so equals stay in the order of their indices


def gt_names(targets: Targets, class_names: Sequence[str] | None = None) -> list[str]:
    """The name of each gt's class, or "class" and its index without `class_names`."""
    labels = targets.labels.tolist()
    return [class_names[label] if class_names is not None else f"class {label}" for label in labels]


def draw_cost(
    ax: Axes,
    assignment: Assignment,
    points: AnchorPoints | None = None,
    names: Sequence[str] | None = None,
    columns: Int[np.ndarray, " c"] | None = None,
    title: str | None = None,
    show_k: bool = True,
    show_levels: bool = True,
) -> Axes:
    """Draw the cost (m + 1, c) of each label: dark is cheap, hatched is forbidden, and labels of gts are underlined.

    points:  group the columns by level
    names:   labels of the gts' rows, see `gt_names`
    columns: replace `candidate_columns`

    The scale ends at the 90th percentile of the gts' costs that are not forbidden. All costs above it have the palest
    colour. Raises InputError if the assignment has gts but solves no transport problem.
    """
    columns = candidate_columns(assignment, points) if columns is None else columns
    cost = matrix(assignment, "cost")[:, columns]
    allowed = cost < FORBIDDEN
    top = float(np.percentile(cost[:-1][allowed[:-1]], 90)) if allowed[:-1].any() else 1.0
    scale = ScalarMappable(Normalize(0, max(top, 1e-6)), CHEAP_TO_DEAR)
    x = paint(ax, scale.to_rgba(cost)[..., :3], allowed, columns, points, show_levels)
    matched = array(assignment.matched_gt)[columns]
    for left, row in zip(x[matched >= 0], matched[matched >= 0], strict=True):
        ax.add_patch(Rectangle((left, row + 0.66), 1, 0.34, facecolor=gt_colour(row), lw=0, zorder=2))
    name_rows(ax, assignment, names, show_k)
    scale_bar(ax, scale, top)
    several = contested(assignment, columns)
    ax.set_title(f"Cost: {several} of {plural(len(columns), 'point')} have several takers" if title is None else title)
    return ax


def draw_plan(
    ax: Axes,
    assignment: Assignment,
    points: AnchorPoints | None = None,
    names: Sequence[str] | None = None,
    columns: Int[np.ndarray, " c"] | None = None,
) -> Axes:
    """Draw the plan (m + 1, c) that belongs to the cost: a cell where a label is shipped has the colour of its gt.

    The arguments are those of `draw_cost`. The smaller the share that an approximate plan ships, the paler the cell.
    Forbidden routes are hatched, unless the plan ships more than 0.001 on them. Raises InputError as `draw_cost` does.
    """
    columns = candidate_columns(assignment, points) if columns is None else columns
    plan = matrix(assignment, "plan")[:, columns]
    allowed = matrix(assignment, "cost")[:, columns] < FORBIDDEN
    colours = np.array([to_rgb(gt_colour(i)) for i in range(len(plan) - 1)] + [to_rgb(GREY)])[:, None]  # (m + 1, 1, 3)
    share = plan.clip(0, 1)[..., None]
    pixels = np.array(to_rgb(PAPER)) * (1 - share) + colours * share
    paint(ax, pixels, allowed | (plan > 1e-3), columns, points)  # mass on a forbidden route must be seen
    name_rows(ax, assignment, names)
    ax.set_title(f"Plan: {plural(int(assignment.supply[:-1].sum()), 'label')} shipped")
    return ax


def contested(assignment: Assignment, columns: np.ndarray) -> int:
    """The number of columns that more than one gt may supply."""
    return int(((matrix(assignment, "cost")[:-1, columns] < FORBIDDEN).sum(axis=0) > 1).sum())


def matrix(assignment: Assignment, name: str) -> np.ndarray:
    """The cost or the plan as an array (m + 1, n).

    Raises InputError if the assignment has gts but no such matrix.
    """
    values: Tensor | None = getattr(assignment, name)
    if values is None and len(assignment.deficit) == 0:  # no gt: the background supplies everybody
        return np.full((1, len(assignment.matched_gt)), 1.0 if name == "plan" else 0.0)
    if values is None:
        raise InputError(f"this assigner solves no transport problem, so there is no {name} to draw")
    return array(values)


def paint(
    ax: Axes,
    pixels: Float[np.ndarray, "m1 c 3"],
    allowed: Bool[np.ndarray, "m1 c"],
    columns: Int[np.ndarray, " c"],
    points: AnchorPoints | None,
    show_levels: bool = True,
) -> Float[np.ndarray, " c"]:
    """Draw the cells and return the left edge (c,) of each column.

    Cells have side 1 and are hatched where they are not allowed. There is a gap between levels.
    """
    count, height = len(columns), len(pixels)
    show_levels = show_levels and points is not None and count > 0
    stride = array(points.stride)[columns] if points is not None else np.zeros(count)
    block = np.cumsum(np.diff(stride, prepend=stride[:1]) != 0)  # (c,) each block is one level
    x = np.arange(count) + block * max(0.8, 0.015 * count)
    right = x[-1] + 1 if count else 1
    bare(ax)
    for left, stop in runs(block):
        edges = (x[left], x[stop - 1] + 1)
        ax.imshow(pixels[:, left:stop], extent=(*edges, height, 0), aspect="auto", interpolation="nearest", zorder=1)
        if count <= MOST_LINED:
            ax.vlines(np.append(x[left:stop], edges[1]), 0, height, color=LINE, lw=0.5)
        ax.hlines(np.arange(height + 1), *edges, color=LINE, lw=0.5)
        for row in range(height):
            for first, last in runs(allowed[row, left:stop]):
                if not allowed[row, left + first]:
                    hatched = {"facecolor": "#f3f4f6", "edgecolor": HATCH, "hatch": "////", "lw": 0, "zorder": 2}
                    ax.add_patch(Rectangle((x[left + first], row), last - first, 1, **hatched))
        if show_levels:
            name = f"{stride[left]:g}" if (stop - left) / count < 0.25 else f"stride {stride[left]:g} px"
            ax.text(sum(edges) / 2, height + 0.15, name, ha="center", va="top", color=MUTED, fontsize=9)
    ax.hlines(height - 1, 0, right, color=PAPER, lw=5, zorder=3)  # sets the background apart
    ax.autoscale(False)
    ax.set(xlim=(0, right), ylim=(height, 0))
    ax.set_xlabel("candidate anchor points" + ", by level" * show_levels, labelpad=15 if show_levels else 4)
    return x


def runs(values: np.ndarray) -> list[tuple[int, int]]:
    """The runs of equal values, each as (first, last + 1)."""
    if len(values) == 0:
        return []
    return list(pairwise([0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]))


def name_rows(ax: Axes, assignment: Assignment, names: Sequence[str] | None, show_k: bool = True) -> None:
    """Label each row: the gt's number on its colour, its name if given and, with `show_k`, its k and its deficit."""
    rows = []  # (mark, its colour, label)
    for row, short in enumerate(assignment.deficit.tolist()):
        wanted = [f"k = {int(assignment.supply[row]) + short}"] + [f"{short} short"] * (short > 0)
        name = [names[row]] if names is not None else []
        rows.append((str(row + 1), gt_colour(row), ", ".join(name + wanted * show_k)))
    rows.append(("–", GREY, "background"))
    at_left = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "annotation_clip": False}
    for row, (mark, colour, label) in enumerate(rows):
        chip(ax, 0, row + 0.5, mark, colour, xytext=(-9, 0), **at_left)
        ax.annotate(label, (0, row + 0.5), xytext=(-18, 0), ha="right", va="center", color=INK, fontsize=8.5, **at_left)


def scale_bar(ax: Axes, shown: ScalarMappable, top: float) -> None:
    """Add a slim colour bar at the right of the matrix, with cheap at the top."""
    bar = ax.figure.colorbar(shown, cax=ax.inset_axes((1.014, 0, 0.016, 1)), ticks=[0, top / 2, top])
    bar.ax.set_yticklabels(["0", "loss", f"{top:.2g}+"])
    bar.ax.tick_params(length=0, labelsize=9, pad=3)
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)
    first, _, last = bar.ax.get_yticklabels()
    first.set_va("top")
    last.set_va("bottom")
