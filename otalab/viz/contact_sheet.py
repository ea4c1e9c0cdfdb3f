"""A contact sheet: images of a data set with their boxes."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from otalab.checks import require
from otalab.errors import one_line
from otalab.viz.boxes import draw_boxes, outline, show_image
from otalab.viz.style import HATCH, MUTED, gt_colour, image_array, plural, style, title_figure

WIDTH, GAP, TOP, FOOT = 10.7, 0.06, 0.5, 0.42  # inches: sheet width, space between images, title, legend
NARROW, WIDE = 0.5, 2.5  # least and greatest aspect ratio (width / height) of a cell; other images leave white
MOST_NAMED = 9  # classes that have a colour and a legend entry


@style()
def contact_sheet(
    images: Sequence[Tensor | np.ndarray],
    targets: Sequence[Mapping[str, Tensor]],
    class_names: Sequence[str],
    title: str | None = None,
    columns: int = 6,
) -> Figure:
    """Draw images in rows, `columns` per row, with their boxes in the colours of their classes.

    targets: "boxes", "labels" and "ignore_boxes" of each image, as the data set gives them
    title:   replaces the number of images in the title, which ends with the number of boxes

    All images of a row have the same height. The nine most frequent classes of the sheet have a colour each, all others
    are grey. Regions to ignore are hatched. All images are kept in memory, so shrink large ones first. Raises
    InputError unless `columns` is a whole number of at least 1.
    """
    require("be a whole number of at least 1", columns=columns)
    arrays = [image_array(image) for image in images]
    aspects = [float(np.clip(array.shape[1] / array.shape[0], NARROW, WIDE)) for array in arrays]
    cells, height = layout(aspects, columns)
    counts = Counter(label for target in targets for label in target["labels"].tolist()).most_common()
    colour_of = {label: gt_colour(rank if rank < MOST_NAMED else -1) for rank, (label, _) in enumerate(counts)}
    figure = Figure(figsize=(WIDTH, height), dpi=150)
    for array, target, (x, y, wide, high) in zip(arrays, targets, cells, strict=True):
        box = (x / WIDTH, 1 - (y + high) / height, wide / WIDTH, high / height)
        ax = show_image(figure.add_axes(box), array)
        for region in target["ignore_boxes"].tolist():
            outline(ax, np.array(region), edgecolor=HATCH, hatch="////", lw=0.8)
        colours = [colour_of[label] for label in target["labels"].tolist()]
        draw_boxes(ax, target["boxes"], colours=colours, linewidth=1.1)
    boxes = sum(count for _, count in counts)
    title = plural(len(arrays), "image") if title is None else title
    title_figure(figure, f"{title}: {boxes:,} box{'es' * (boxes != 1)}", 0.004, 0.25)
    handles = [
        Patch(color=colour_of[label], label=f"{one_line(class_names[label], 24)} {count:,}")
        for label, count in counts[:MOST_NAMED]
    ]
    if rest := counts[MOST_NAMED:]:
        label = f"{len(rest)} more {sum(count for _, count in rest):,}"
        handles.append(Patch(color=gt_colour(-1), label=label))
    place = {"loc": "center left", "bbox_to_anchor": (0, 0.19 / height), "ncols": max(1, len(handles))}
    legend = figure.legend(handles=handles, labelcolor=MUTED, handlelength=0.8, columnspacing=1.1, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def layout(aspects: Sequence[float], columns: int) -> tuple[list[tuple[float, float, float, float]], float]:
    """Lay out the images: left, top, width and height of each, and the height of the sheet, all in inches.

    aspects: width / height of each image

    Each full row fills the width of the sheet. A last row that is not full is no higher than the row before it, or, if
    it is the only row, no higher than WIDTH / columns.
    """
    cells, y, last = [], TOP, WIDTH / columns
    for first in range(0, len(aspects), columns):
        row = aspects[first : first + columns]
        high = (WIDTH - GAP * (len(row) - 1)) / sum(row)
        if len(row) < columns:
            high = min(high, last)
        x = 0.0
        for aspect in row:
            cells.append((x, y, aspect * high, high))
            x += aspect * high + GAP
        y, last = y + high + GAP, high
    return cells, y + FOOT
