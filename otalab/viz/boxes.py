"""Images, boxes and anchor points."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from otalab.assign.types import IGNORED, AnchorPoints, Assignment, Targets
from otalab.viz.style import INK, MUTED, PAPER, array, chip, gt_colour, image_array, plural


def show_image(ax: Axes, image: Tensor | np.ndarray, wash: float = 0.0) -> Axes:
    """An image, one unit of the axes a px. `wash` in 0..1 mixes it with white, so that what lies on it stands out.

    image: (3, H, W) or (H, W, 3), float in 0..1 or uint8
    """
    pixels = image_array(image)
    height, width = pixels.shape[:2]
    ax.imshow(pixels * (1 - wash) + wash, extent=(0, width, height, 0), interpolation="lanczos", resample=True)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax


def draw_boxes(
    ax: Axes,
    boxes: Tensor | np.ndarray,
    labels: Tensor | Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    scores: Tensor | Sequence[float] | None = None,
    colours: Sequence[str] | None = None,
    numbered: bool = False,
    linestyle: str = "-",
    linewidth: float = 2.0,
    fontsize: float = 7.5,
) -> Axes:
    """Boxes (m, 4), xyxy in px, box i in the colour of gt i unless `colours` says otherwise.

    A box's tag is made of what is given: its number i + 1 if `numbered`, its class (the name, where `class_names` are
    given with `labels`) and its score.
    """
    boxes = array(boxes).reshape(-1, 4)
    for i, box in enumerate(boxes):
        colour = gt_colour(i) if colours is None else colours[i]
        tag = [str(i + 1)] if numbered else []
        if labels is not None:
            label = int(labels[i])
            tag.append(class_names[label] if class_names is not None else str(label))
        if scores is not None:
            tag.append(score_text(float(scores[i])))
        draw_box(ax, box, colour, linestyle=linestyle, linewidth=linewidth)
        if tag:
            tag_box(ax, box, " ".join(tag), colour, fontsize, boxes)
    return ax


def score_text(score: float) -> str:
    """A score in 0..1 in three letters: ".87"; no detector is surer than ".99" here."""
    return f"{min(score, 0.99):.2f}"[1:]


def draw_box(ax: Axes, box: np.ndarray, colour: str, linestyle: str = "-", linewidth: float = 2.0, **options) -> None:
    """One box with a thin white halo, so that it is seen on any image."""
    x1, y1, x2, y2 = map(float, box)
    patch = Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=linewidth, linestyle=linestyle, **options
    )
    patch.set_path_effects([withStroke(linewidth=linewidth + 1.6, foreground=PAPER, alpha=0.9)])
    patch.set_zorder(3)
    ax.add_patch(patch)


def tag_box(
    ax: Axes, box: np.ndarray, text: str, colour: str, fontsize: float = 7.5, others: np.ndarray | None = None
) -> None:
    """A tag outside one of the box's corners: the one where fewest `others` (m, 4) lie, inside the image if need be."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x1, y1, x2, y2 = np.clip(array(box), (left, top, left, top), (right, bottom, right, bottom)).tolist()
    room = 0.06 * (bottom - top)  # about a tag's height
    corners = [(x1, y1, "left", -1), (x2, y1, "right", -1), (x1, y2, "left", 1), (x2, y2, "right", 1)]

    def badness(corner: tuple[float, float, str, int]) -> int:
        x, y = corner[0] + room * (1 if corner[2] == "left" else -1), corner[1] + room * corner[3] / 2
        if not top <= y + room * corner[3] / 2 <= bottom:
            return 100
        if others is None:
            return 0
        inside = (others[:, 0] < x) & (x < others[:, 2]) & (others[:, 1] < y) & (y < others[:, 3])
        return int(inside.sum())

    x, y, side, down = min(corners, key=badness)
    within = badness((x, y, side, down)) == 100
    chip(
        ax,
        x,
        y,
        text,
        colour,
        fontsize=fontsize,
        ha=side,
        va="bottom" if (down < 0) != within else "top",
        xytext=(2 if side == "left" else -2, down * (-3 if within else 2) * -1),
        textcoords="offset points",
    )


def draw_assignment(
    ax: Axes,
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    assignment: Assignment,
    targets: Targets,
    wash: float = 0.6,
    title: str | None = None,
    legend: bool = True,
) -> Axes:
    """Who learns what: each anchor point in the colour of its gt, larger on coarser levels, on the washed image.

    Background points are small and grey; ignored ones are crosses, and the regions they lie in are hatched.
    """
    show_image(ax, image, wash)
    matched, level, xy = array(assignment.matched_gt), array(points.level), array(points.xy)
    if targets.ignore_boxes is not None:
        for x1, y1, x2, y2 in array(targets.ignore_boxes).tolist():
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=MUTED, hatch="////", lw=0.8))
    draw_boxes(ax, targets.boxes, numbered=True, linewidth=1.6)
    size = dot_size(level) ** 2  # pt^2
    for kind, options in (
        (matched == -1, {"c": MUTED, "s": size * 0.14, "linewidths": 0, "alpha": 0.5}),
        (matched == IGNORED, {"c": MUTED, "s": size * 0.6, "marker": "x", "linewidths": 1}),
    ):
        index = np.flatnonzero(kind)
        scatter(ax, xy, index, **{k: v[index] if isinstance(v, np.ndarray) else v for k, v in options.items()})
    # coarse levels first: the small points of the fine ones stay visible on them
    positive = np.flatnonzero(matched >= 0)
    positive = positive[np.argsort(-level[positive], kind="stable")]
    colours = [gt_colour(i) for i in matched[positive]]
    scatter(ax, xy, positive, c=colours, s=size[positive], edgecolors=PAPER, linewidths=0.8, zorder=6)
    if title is None:
        title = f"{len(positive):,} of {plural(len(points), 'anchor point')} learn an object"
    ax.set_title(title)
    if legend:
        point_legend(ax, points, ignored=bool((matched == IGNORED).any()))
    return ax


def dot_size(level: np.ndarray | int) -> np.ndarray | float:
    """Diameter in pt of a positive point of that level."""
    return 3.8 + 1.9 * level


def scatter(ax: Axes, xy: np.ndarray, index: np.ndarray, **options) -> None:
    """The points `index`, if there are any."""
    if len(index):
        ax.scatter(xy[index, 0], xy[index, 1], **{"zorder": 3.5} | options)


def point_legend(ax: Axes, points: AnchorPoints, ignored: bool = False) -> None:
    """Beneath the axes: the dot of each stride, the background's and the ignored points'."""
    first = {int(level): float(stride) for level, stride in zip(points.level, points.stride, strict=True)}

    def dot(colour: str, size: float, label: str, marker: str = "o") -> Line2D:
        return Line2D([], [], color=colour, marker=marker, markersize=size, linestyle="", label=label)

    handles = [dot(INK, dot_size(level), f"{stride:g}") for level, stride in sorted(first.items())]
    handles[0].set_label(f"stride {handles[0].get_label()}")
    handles[-1].set_label(f"{handles[-1].get_label()} px")
    handles.append(dot(MUTED, 2.6, "background"))
    if ignored:
        handles.append(dot(MUTED, 5, "ignored", "x"))
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        ncols=len(handles),
        borderaxespad=0.4,
        borderpad=0,
        handletextpad=0.1,
        handlelength=1.3,
        columnspacing=0.8,
        fontsize=8.5,
        labelcolor=MUTED,
    )
