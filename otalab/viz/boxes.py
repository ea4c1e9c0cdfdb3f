"""Images, boxes and anchor points."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from otalab.assign.types import IGNORED, AnchorPoints, Assignment, Targets
from otalab.errors import one_line
from otalab.viz.style import INK, MUTED, PAPER, array, bare, chip, gt_colour, image_array, plural


def show_image(ax: Axes, image: Tensor | np.ndarray, wash: float = 0.0) -> Axes:
    """Show an image; one unit of the axes is one px.

    image: (3, H, W) or (H, W, 3), float in 0..1 or uint8
    wash:  share of white, in 0..1, that is mixed into the image so that what is drawn on it stands out
    """
    pixels = image_array(image)
    height, width = pixels.shape[:2]
    ax.imshow(pixels * (1 - wash) + wash, extent=(0, width, height, 0), interpolation="lanczos", resample=True)
    ax.set(xlim=(0, width), ylim=(height, 0))
    bare(ax)
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
    """Draw boxes (m, 4), xyxy in px. Box i has the colour of gt i unless `colours` are given.

    The tag of a box holds whatever is given: its number i + 1 if `numbered`, then its class (its name if `class_names`
    are given too, else its index), then its score. A box has no tag if none of these is given.
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
    """Format a score in 0..1 as three characters, such as ".87". Scores above 0.99 are shown as ".99"."""
    return f"{min(score, 0.99):.2f}"[1:]


def outline(ax: Axes, box: np.ndarray, **options) -> None:
    """Draw the edges of a box, xyxy in px; `options` go to its Rectangle."""
    x1, y1, x2, y2 = map(float, box)
    ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **options))


def draw_box(ax: Axes, box: np.ndarray, colour: str, linewidth: float, **options) -> None:
    """Draw a box, xyxy in px, with a thin white halo that shows it on any image; `options` go to its Rectangle."""
    halo = [withStroke(linewidth=linewidth + 1.6, foreground=PAPER, alpha=0.9)]
    outline(ax, box, edgecolor=colour, linewidth=linewidth, path_effects=halo, zorder=3, **options)


def tag_box(
    ax: Axes,
    box: np.ndarray,
    text: str,
    colour: str,
    fontsize: float,
    others: np.ndarray,
    below: bool = False,
) -> None:
    """Put a tag at the corner of a box where it fits best: inside the image, off earlier tags, outside `others`.

    others: (m, 4) xyxy in px; inside one of these boxes the tag would seem to belong to that box
    below:  try the lower edge of the box before the upper one

    If neither edge is free, the tag goes beside or inside the box. The size of a tag is estimated, because Matplotlib
    measures a font only when it draws it.
    """
    text = one_line(text)  # a class name may contain line breaks or control characters
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x1, y1, x2, y2 = np.clip(array(box), (left, top, left, top), (right, bottom, right, bottom)).tolist()
    px = (right - left) / (ax.bbox.width * 72 / ax.figure.dpi)  # image px per pt
    wide, high = tag_size(text, fontsize, px)
    tags = []  # (x, y, width, height) of earlier tags, where (x, y) is the middle
    for tag in (t for t in ax.texts if hasattr(t, "xy")):
        w, h = tag_size(tag.get_text(), tag.get_fontsize(), px)
        along = {"left": 0.5, "center": 0, "right": -0.5}[tag.get_ha()]
        down = {"top": 0.5, "center": 0, "bottom": -0.5}[tag.get_va()]
        tags.append((tag.xy[0] + along * w, tag.xy[1] + down * h, w, h))

    def badness(corner: tuple[float, float, int, int]) -> float:
        x, y, along, down = corner
        outside = not (left <= x + along * wide <= right) or not (top <= y + down * high <= bottom)
        x, y = x + along * wide / 2, y + down * high / 2
        hidden = ((others[:, :2] < (x, y)) & (others[:, 2:] > (x, y))).all(axis=1).sum()
        apart = [(2 * abs(x - tx) / (wide + w), 2 * abs(y - ty) / (high + h)) for tx, ty, w, h in tags]
        crossed = sum(max(0.0, 1 - dx) * max(0.0, 1 - dy) for dx, dy in apart)  # 1: one covers the other
        return 100 * outside + 30 * crossed + float(hidden)

    above = [(x1, y1, 1, -1), (x2, y1, -1, -1)]  # (x, y, direction in which the tag extends)
    beneath = [(x1, y2, 1, 1), (x2, y2, -1, 1)]
    beside = [(x2, y1, 1, 1), (x1, y1, -1, 1), (x2, y2, 1, -1), (x1, y2, -1, -1)]
    within = [(x1, y1, 1, 1), (x2, y1, -1, 1), (x1, y2, 1, -1), (x2, y2, -1, -1)]
    x, y, along, down = min((beneath + above if below else above + beneath) + beside + within, key=badness)
    x = min(max(x, left + wide * (along < 0)), right - wide * (along > 0))
    y = min(max(y, top + high * (down < 0)), bottom - high * (down > 0))
    corner = {"ha": "left" if along > 0 else "right", "va": "bottom" if down < 0 else "top"}
    shift = {"xytext": (2 * along, -2 * down), "textcoords": "offset points"}
    chip(ax, x, y, text, colour, fontsize=fontsize, **corner, **shift)


def tag_size(text: str, fontsize: float, px: float) -> tuple[float, float]:
    """Estimate the width and height of a tag in image px; `px` is the length of one pt in image px."""
    return (0.68 * fontsize * len(text) + 6) * px, 1.8 * fontsize * px


def draw_assignment(
    ax: Axes,
    image: Tensor | np.ndarray,
    points: AnchorPoints,
    assignment: Assignment,
    targets: Targets,
    wash: float = 0.6,
    title: str | None = None,
    legend: bool = True,
    numbered: bool = True,
) -> Axes:
    """Draw what each anchor point learns: a dot in the colour of its gt on the washed-out image.

    Dots are larger on coarser levels. Background points are small and grey. Ignored points are crosses, and regions to
    ignore are hatched.
    """
    show_image(ax, image, wash)
    matched, level, xy = array(assignment.matched_gt), array(points.level), array(points.xy)
    for region in [] if targets.ignore_boxes is None else array(targets.ignore_boxes):
        outline(ax, region, edgecolor=MUTED, hatch="////", lw=0.8)
    draw_boxes(ax, targets.boxes, numbered=numbered, linewidth=1.6)
    size = dot_sizes(ax, points) ** 2  # pt^2

    def dots(chosen: np.ndarray, scale: float, **options) -> None:
        if len(chosen):
            ax.scatter(*xy[chosen].T, s=scale * size[chosen], **{"c": MUTED, "zorder": 3.5} | options)

    ignored = np.flatnonzero(matched == IGNORED)
    dots(np.flatnonzero(matched == -1), 0.14, linewidths=0, alpha=0.5)
    dots(ignored, 0.6, marker="x", linewidths=1)
    # coarse levels first, so that the small dots of finer levels lie on top
    positive = np.flatnonzero(matched >= 0)
    positive = positive[np.argsort(-level[positive], kind="stable")]
    colours = [gt_colour(i) for i in matched[positive]]
    dots(positive, 1.0, c=colours, edgecolors=PAPER, linewidths=0.8, zorder=6)
    if title is None:
        title = f"{len(positive):,} of {plural(len(points), 'anchor point')} learn an object"
    ax.set_title(title)
    if legend:
        point_legend(ax, points, ignored=len(ignored) > 0)
    return ax


def dot_sizes(ax: Axes, points: AnchorPoints) -> np.ndarray:
    """The diameter (n,) in pt of each point's dot if it is positive.

    A dot of the finest level takes 62 % of the spacing of that level's points, but at least 2.5 pt and at most 5.5 pt.
    Each coarser level adds 1.9 pt.
    """
    width = abs(ax.get_xlim()[1] - ax.get_xlim()[0])
    spacing = float(points.stride.min()) / width * ax.bbox.width * 72 / ax.figure.dpi  # pt
    return min(max(0.62 * spacing, 2.5), 5.5) + 1.9 * array(points.level)


def ring_points(
    ax: Axes,
    points: AnchorPoints,
    chosen: Tensor | np.ndarray,
    diameter: float | np.ndarray = 8.4,
    linewidth: float = 1.0,
) -> None:
    """Draw rings around the points `chosen`, a mask (n,) or indices; `diameter` is in pt, one for all or one each."""
    options = {"facecolors": "none", "edgecolors": INK, "linewidths": linewidth, "clip_on": False, "zorder": 7}
    ax.scatter(*array(points.xy)[array(chosen)].T, s=diameter**2, **options)


def point_legend(ax: Axes, points: AnchorPoints, ignored: bool = False) -> None:
    """Add a legend of `point_handles` beneath the axes, including ignored points if `ignored`."""
    handles = point_handles(ax, points, ignored)
    place = {"loc": "upper left", "bbox_to_anchor": (0, 0), "borderaxespad": 0.4, "borderpad": 0}
    narrow = {"handletextpad": 0.3, "handlelength": 1.3, "columnspacing": 0.7, "fontsize": 8}
    ax.legend(handles=handles, ncols=len(handles), labelcolor=MUTED, **place, **narrow)


def point_handles(ax: Axes, points: AnchorPoints, ignored: bool = False) -> list[Line2D]:
    """Legend handles: the dot of each stride, as large as in `ax`, the background and, if `ignored`, ignored points."""
    _, first = np.unique(array(points.level), return_index=True)
    names = [f"{stride:g}" for stride in array(points.stride)[first]]
    names[0] = f"stride {names[0]}"
    names[-1] += " px"
    rows = [(INK, size, name, "o") for size, name in zip(dot_sizes(ax, points)[first], names, strict=True)]
    rows += [(MUTED, 2.6, "background", "o")] + [(MUTED, 5.0, "ignored", "x")] * ignored
    return [
        Line2D([], [], color=colour, marker=marker, markersize=size, linestyle="", label=name)
        for colour, size, name, marker in rows
    ]


def tally(ax: Axes, counts: Sequence[int], verb: str) -> None:
    """Write a count for each gt in its colour beneath the axes, after `verb`, such as "wants" or "gets"."""
    ax.text(0.0, -0.07, verb, transform=ax.transAxes, color=MUTED, fontsize=9, va="center")
    for i, count in enumerate(counts):
        options = {"color": gt_colour(i), "fontsize": 11, "fontweight": "bold", "va": "center", "ha": "center"}
        ax.text(0.2 + 0.12 * i, -0.07, str(count), transform=ax.transAxes, **options)
