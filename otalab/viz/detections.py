"""Detections compared with the ground truth: gts that were found, false positives and missed gts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from otalab.assign.types import Targets
from otalab.lab.mistakes import match
from otalab.viz.boxes import draw_box, draw_boxes, outline, score_text, show_image, tag_box
from otalab.viz.output import save_figure
from otalab.viz.style import INK, MUTED, PAPER, array, gt_colour, image_array, plural, style, title_figure

DASHES = (0, (3, 1.5))  # outline of a false positive
LONGER = 960  # px, the longer side of a picture of detections


class Matches(NamedTuple):
    """Which detection found which gt, and which gts were missed."""

    gt: Int[np.ndarray, " d"]
    """The gt that each detection found, -1 for a false positive."""
    missed: Bool[np.ndarray, " m"]
    """Mask of the gts that no detection found."""


def match_detections(
    boxes: Float[Tensor, "d 4"],
    labels: Int[Tensor, " d"],
    scores: Float[Tensor, " d"],
    gt_boxes: Float[Tensor, "m 4"],
    gt_labels: Int[Tensor, " m"],
    iou: float = 0.5,
) -> Matches:
    """Match detections to gts of the same class, as `otalab.lab.mistakes.match` does. Boxes are xyxy in px.

    `iou` is the least IoU of a match. Crowd regions do not belong among the gts.
    """
    overlap = box_iou(boxes.double(), gt_boxes.double()) * (labels[:, None] == gt_labels)
    found = array(match(overlap, scores, iou))
    return Matches(found, ~np.isin(np.arange(len(gt_boxes)), found))


def match_above(
    targets: Targets, detection: Mapping[str, Tensor], score_threshold: float, iou: float
) -> tuple[dict[str, Tensor], Matches]:
    """The detections with a score of at least `score_threshold`, and their matches."""
    keep = detection["scores"] >= score_threshold
    kept = {name: detection[name][keep].detach().cpu() for name in ("boxes", "labels", "scores")}
    return kept, match_detections(**kept, gt_boxes=targets.boxes.cpu(), gt_labels=targets.labels.cpu(), iou=iou)


def draw_detections(
    ax: Axes,
    image: Tensor | np.ndarray,
    targets: Targets,
    detection: Mapping[str, Tensor],
    class_names: Sequence[str] | None = None,
    score_threshold: float = 0.5,
    iou: float = 0.5,
    wash: float = 0.25,
    by_class: bool = False,
) -> Axes:
    """Draw the detections of one image ("boxes" (d, 4) xyxy in px, "labels", "scores") and the gts that they miss.

    A detection that found a gt is solid, in the colour of the gt, and tagged with its score. A false positive is
    dashed, black, and tagged with its class and score. A missed gt is hatched in its colour. With `by_class` each box
    has the colour of its class instead, and every detection is tagged with its class too.
    """
    show_image(ax, image, wash)
    kept, matches = match_above(targets, detection, score_threshold, iou)
    for i in np.flatnonzero(matches.missed):
        box, colour = array(targets.boxes[i]), gt_colour(targets.labels[i] if by_class else i)
        draw_box(ax, box, colour, linestyle=":", linewidth=1.4)
        outline(ax, box, ec=colour, hatch="////", lw=0)
    shown = array(kept["boxes"])
    # false positives first, so that detections that found a gt lie on top
    for i in np.argsort(matches.gt >= 0, kind="stable"):
        label, tag, found = int(kept["labels"][i]), score_text(float(kept["scores"][i])), matches.gt[i] >= 0
        if by_class or not found:
            tag = f"{class_names[label] if class_names is not None else label} {tag}"
        colour = gt_colour(label) if by_class else gt_colour(matches.gt[i]) if found else INK
        draw_box(ax, shown[i], colour, linestyle="-" if found else DASHES, linewidth=1.6)
        tag_box(ax, shown[i], tag, colour, fontsize=6.5, others=shown, below=not found)
    return ax


@style()
def save_detections(
    path: str | Path,
    image: UInt8[np.ndarray, "h w 3"],
    detection: Mapping[str, Tensor],
    class_names: Sequence[str],
) -> None:
    """Write a PNG of the image and its detections, in one colour per class. Its longer side is LONGER px.

    A narrow image is drawn larger: its shorter side is LONGER / 4 px, unless the longer side would then exceed
    4 * LONGER px, which is the limit. No side is shorter than 1 px.
    """
    sides = np.array([image.shape[1], image.shape[0]])
    scale = max(LONGER / sides.max(), min(LONGER / 4 / sides.min(), 4 * LONGER / sides.max()))
    drawn = (scale * sides).round().astype(int).clip(1)
    boxes = detection["boxes"]
    if scale < 1:  # shrink it first: Matplotlib works in float64, eight times the bytes of uint8
        image = np.array(Image.fromarray(image).resize(drawn, Image.Resampling.LANCZOS))
        boxes = array(boxes) * np.tile(drawn / sides, 2)
    labels = detection["labels"].tolist()
    figure = Figure(figsize=(drawn + 0.5) / 150, dpi=150)  # Matplotlib rounds down to whole px
    ax = show_image(figure.add_axes((0, 0, 1, 1)), image)
    draw_boxes(ax, boxes, labels, class_names, detection["scores"], [gt_colour(label) for label in labels])
    save_figure(figure, path)


@style()
def detection_grid(
    images: Sequence[Tensor | np.ndarray],
    targets: Sequence[Targets | Mapping[str, Tensor]],
    detections: Sequence[Mapping[str, Tensor]],
    class_names: Sequence[str] | None = None,
    columns: int = 4,
    score_threshold: float = 0.5,
    iou: float = 0.5,
) -> Figure:
    """Draw images with their ground truth above and their detections beneath, at most `columns` images per row.

    targets: `Targets`, or dicts with "boxes" and "labels" as the data set gives them

    The title counts gts, gts found and false positives. The other arguments are those of `draw_detections`.
    """
    targets = [t if isinstance(t, Targets) else Targets(t["boxes"], t["labels"]) for t in targets]
    pairs = list(zip(images, targets, detections, strict=True))
    columns = max(1, min(columns, len(pairs)))
    bands = max(1, -(-len(pairs) // columns))
    side = 10.7 / max(columns, 3)
    shapes = [image_array(image).shape for image in images]
    tallest = max((high / wide for high, wide, _ in shapes), default=1)
    height = 2 * side * min(tallest, 1.5) * bands + 0.95
    figure = Figure(figsize=(side * columns, height), dpi=150)
    room = {"left": 0.035, "right": 0.998, "top": 1 - 0.45 / height, "bottom": 0.36 / height}
    outer = figure.add_gridspec(bands, columns, **room, hspace=0.06, wspace=0.035)
    for index, (image, target, detection) in enumerate(pairs):
        inner = outer[index // columns, index % columns].subgridspec(2, 1, hspace=0.02)
        above, beneath = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
        show_image(above, image)
        draw_boxes(above, target.boxes, target.labels, class_names, linewidth=1.6, fontsize=6.5)
        draw_detections(beneath, image, target, detection, class_names, score_threshold, iou)
        if index % columns == 0:
            above.set_ylabel("ground truth", color=MUTED, fontsize=9)
            beneath.set_ylabel("detections", color=MUTED, fontsize=9)
    matches = [match_above(target, detection, score_threshold, iou)[1] for _, target, detection in pairs]
    found = sum(int((each.gt >= 0).sum()) for each in matches)
    objects, shown = sum(map(len, targets)), sum(len(each.gt) for each in matches)
    title = f"{found} of {plural(objects, 'object')} found, {plural(shown - found, 'false alarm')}"
    title_figure(figure, title, 0.035, 0.24)
    text = f"score at least {score_threshold:g}, right class and IoU at least {iou:g} "
    figure.text(1, 0.16 / height, text, color=MUTED, fontsize=8, ha="right", va="center")
    looks = {
        "found": {"ec": gt_colour(0), "lw": 1.6},
        "false alarm": {"ec": INK, "lw": 1.6, "ls": DASHES},
        "missed": {"ec": gt_colour(0), "lw": 1.0, "ls": ":", "hatch": "/////"},
    }
    handles = [Rectangle((0, 0), 1, 1, fc=PAPER, label=name, **look) for name, look in looks.items()]
    place = {"loc": "center left", "bbox_to_anchor": (0.03, 0.16 / height), "ncols": 3}
    figure.legend(handles=handles, labelcolor=MUTED, handlelength=1.5, **place)
    return figure
