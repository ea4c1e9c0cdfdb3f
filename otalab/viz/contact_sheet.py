"""A contact sheet: what the images of a set look like, and where their boxes lie."""

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

WIDTH, GAP, TOP, FOOT = 10.7, 0.06, 0.5, 0.42  # inches: of the sheet, between images, for the title and for the legend
NARROW, WIDE = 0.5, 2.5  # width over height that an image gets at least and at most; beyond it white is left beside it
MOST_NAMED = 9  # classes with a colour and a place in the legend


def contact_sheet(
    images: Sequence[Tensor | np.ndarray],
    targets: Sequence[Mapping[str, Tensor]],
    class_names: Sequence[str],
    title: str | None = None,
    columns: int = 6,
) -> Figure:
    """Images in rows of one height each, `columns` a row, with their boxes in the colours of their classes.

    targets: "boxes", "labels" and "ignore_boxes" as the data set gives them; regions to ignore are hatched. The nine
    most frequent classes of the sheet have a colour each, all others are grey. Large images are better shrunk before:
    all are kept in memory. The title counts the boxes; `title` says more about the images. Raises InputError for fewer
    than one column.
    """
    require("be a whole number of at least 1", columns=columns)
    arrays = [image_array(image) for image in images]
    aspects = [float(np.clip(array.shape[1] / array.shape[0], NARROW, WIDE)) for array in arrays]
    cells, height = layout(aspects, columns)
    counts = Counter(label for target in targets for label in target["labels"].tolist()).most_common()
    colour_of = {label: gt_colour(rank if rank < MOST_NAMED else -1) for rank, (label, _) in enumerate(counts)}
    with style():
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
    """Of each image the left, the top, the width and the height, inches, and the height of the sheet.

    aspects: width over height. Rows fill the width; the last one is no higher than the row before.
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
