"""Detections beside the ground truth: what was found, what was made up, what was missed."""

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
from otalab.viz.boxes import draw_box, draw_boxes, score_text, show_image, tag_box
from otalab.viz.save import save_figure
from otalab.viz.style import INK, MUTED, PAPER, array, gt_colour, plural, style


class Matches(NamedTuple):
    """Which detection found which gt."""

    gt: Int[np.ndarray, " d"]
    """Of each detection: the gt it found, -1 for a false positive."""
    missed: Bool[np.ndarray, " m"]
    """The gts that no detection found."""


def match_detections(
    boxes: Float[Tensor, "d 4"],
    labels: Int[Tensor, " d"],
    scores: Float[Tensor, " d"],
    gt_boxes: Float[Tensor, "m 4"],
    gt_labels: Int[Tensor, " m"],
    iou: float = 0.5,
) -> Matches:
    """Which detection found which gt of its class; see `otalab.lab.mistakes.match`. Crowd regions are no gts."""
    overlap = box_iou(boxes.double(), gt_boxes.double()) * (labels[:, None] == gt_labels)
    found = array(match(overlap, scores, iou))
    return Matches(found, ~np.isin(np.arange(len(gt_boxes)), found))


def draw_detections(
    ax: Axes,
    image: Tensor | np.ndarray,
    targets: Targets,
    detection: Mapping[str, Tensor],
    class_names: Sequence[str] | None = None,
    score_threshold: float = 0.5,
    iou: float = 0.5,
    wash: float = 0.25,
) -> Axes:
    """Detections of one image ("boxes" (d, 4) xyxy px, "labels", "scores") against its gts.

    A found gt's detection is solid in the gt's colour, with its score; a false positive is dashed and black, with its
    class and score; a missed gt is hatched in its colour.
    """
    show_image(ax, image, wash)
    kept, matches = match_above(targets, detection, score_threshold, iou)
    for i in np.flatnonzero(matches.missed):
        box = array(targets.boxes[i])
        draw_box(ax, box, gt_colour(i), linestyle=":", linewidth=1.4)
        x1, y1, x2, y2 = map(float, box)
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=gt_colour(i), hatch="////", lw=0))
    shown = array(kept["boxes"])
    # false positives first, so that what was found lies on top
    for i in sorted(range(len(matches.gt)), key=lambda i: matches.gt[i] >= 0):
        gt, label, box = int(matches.gt[i]), int(kept["labels"][i]), shown[i]
        score = score_text(float(kept["scores"][i]))
        colour = gt_colour(gt) if gt >= 0 else INK
        name = class_names[label] if class_names is not None else str(label)
        draw_box(ax, box, colour, linestyle="-" if gt >= 0 else (0, (3, 1.5)), linewidth=1.6)
        tag_box(ax, box, score if gt >= 0 else f"{name} {score}", colour, fontsize=6.5, others=shown, below=gt < 0)
    return ax


def save_detections(
    path: str | Path,
    image: UInt8[np.ndarray, "h w 3"],
    detection: Mapping[str, Tensor],
    class_names: Sequence[str],
    longer: int = 960,
) -> None:
    """Write a PNG: the image and its detections, one colour a class; its longer side is `longer` px.

    A narrow image is drawn longer, up to four times that, until its shorter side is a quarter of `longer`. No side is
    under 1 px.
    """
    labels = detection["labels"].tolist()
    width, height = drawn_size(image.shape[1], image.shape[0], longer)
    ratio = np.array([width / image.shape[1], height / image.shape[0]])
    if ratio.min() < 1:  # Matplotlib works in float64, eight times the image's bytes
        image = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
        boxes = array(detection["boxes"]) * np.tile(ratio, 2)
    else:
        boxes = detection["boxes"]
    with style():
        figure = Figure(figsize=((width + 0.5) / 150, (height + 0.5) / 150), dpi=150)  # rounded down to whole px
        ax = show_image(figure.add_axes((0, 0, 1, 1)), image)
        colours = [gt_colour(label) for label in labels]
        draw_boxes(ax, boxes, labels, class_names, detection["scores"], colours)
        save_figure(figure, path)


def drawn_size(width: int, height: int, longer: int) -> tuple[int, int]:
    """Width and height in px of the picture of an image, see `save_detections`."""
    long, short = max(width, height), min(width, height)
    scale = max(longer / long, min(longer / 4 / short, 4 * longer / long))
    return max(1, round(width * scale)), max(1, round(height * scale))


def match_above(
    targets: Targets, detection: Mapping[str, Tensor], score_threshold: float, iou: float
) -> tuple[dict[str, Tensor], Matches]:
    """The detections of at least that score, and their matches."""
    keep = detection["scores"] >= score_threshold
    kept = {name: detection[name][keep].detach().cpu() for name in ("boxes", "labels", "scores")}
    return kept, match_detections(**kept, gt_boxes=targets.boxes.cpu(), gt_labels=targets.labels.cpu(), iou=iou)


def detection_grid(
    images: Sequence[Tensor | np.ndarray],
    targets: Sequence[Targets | Mapping[str, Tensor]],
    detections: Sequence[Mapping[str, Tensor]],
    class_names: Sequence[str] | None = None,
    columns: int = 4,
    score_threshold: float = 0.5,
    iou: float = 0.5,
) -> Figure:
    """`columns` images a row, each with its ground truth above and its detections beneath; the title counts them.

    targets: `Targets`, or dicts with "boxes" and "labels" as the data set gives them. See `draw_detections`.
    """
    targets = [t if isinstance(t, Targets) else Targets(t["boxes"], t["labels"]) for t in targets]
    pairs = list(zip(images, targets, detections, strict=True))
    columns = max(1, min(columns, len(pairs)))
    bands = max(1, -(-len(pairs) // columns))
    found = missed = wrong = 0
    side = 10.7 / max(columns, 3)
    with style():
        figure = Figure(figsize=(side * columns, 2 * side * bands + 0.95), dpi=150)
        outer = figure.add_gridspec(bands, columns, **margins(figure, 0.035), hspace=0.06, wspace=0.035)
        for index, (image, target, detection) in enumerate(pairs):
            inner = outer[index // columns, index % columns].subgridspec(2, 1, hspace=0.02)
            above, beneath = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
            show_image(above, image)
            draw_boxes(above, target.boxes, target.labels, class_names, linewidth=1.6, fontsize=6.5)
            draw_detections(beneath, image, target, detection, class_names, score_threshold, iou)
            matches = match_above(target, detection, score_threshold, iou)[1]
            found += int((matches.gt >= 0).sum())
            wrong += int((matches.gt < 0).sum())
            missed += int(matches.missed.sum())
            if index % columns == 0:
                for ax, name in ((above, "ground truth"), (beneath, "detections")):
                    ax.set_ylabel(name, color=MUTED, fontsize=9)
        title = f"{found} of {plural(found + missed, 'object')} found, {plural(wrong, 'false alarm')}"
        height = figure.get_figheight()
        figure.text(0.035, 1 - 0.24 / height, title, fontsize=12.5, fontweight="bold", va="center")
        text = f"score at least {score_threshold:g}, right class and IoU at least {iou:g}"
        figure.text(1, 0.16 / height, text + " ", color=MUTED, fontsize=8, ha="right", va="center")
        outcome_legend(figure)
    return figure


def margins(figure: Figure, left: float) -> dict[str, float]:
    """Room for the title and the legend, in inches made fractions."""
    height = figure.get_figheight()
    return {"left": left, "right": 0.998, "top": 1 - 0.45 / height, "bottom": 0.36 / height}


def outcome_legend(figure: Figure) -> None:
    """What solid, dashed and hatched boxes mean."""
    colour = gt_colour(0)
    handles = [
        Rectangle((0, 0), 1, 1, fc=PAPER, ec=colour, lw=1.6, label="found"),
        Rectangle((0, 0), 1, 1, fc=PAPER, ec=INK, lw=1.6, ls=(0, (3, 1.5)), label="false alarm"),
        Rectangle((0, 0), 1, 1, fc=PAPER, ec=colour, lw=1.0, ls=":", hatch="/////", label="missed"),
    ]
    y = 0.16 / figure.get_figheight()
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.03, y), ncols=3, labelcolor=MUTED, handlelength=1.5
    )
