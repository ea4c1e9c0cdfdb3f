"""The annotations of a COCO file as arrays: loader processes would copy a million dicts when they count references."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from otalab.errors import one_line, quoted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoxTable:
    """One row an annotation, in the order of their images."""

    place: Int[np.ndarray, " n"]
    """Which image it lies in, counted from 0."""
    label: Int[np.ndarray, " n"]
    """0..C-1; -1 for a category that was not chosen."""
    ignored: Bool[np.ndarray, " n"]
    """A region to ignore: no gt, and no background."""
    area: Float[np.ndarray, " n"]
    """px^2, by which the evaluation tells small from large."""
    annotated: Float[np.ndarray, "n 4"]
    """xywh px, as the file has it."""
    boxes: Float[np.ndarray, "n 4"]
    """float32 xyxy px, clipped to the image."""
    clipped: Bool[np.ndarray, " n"]
    """Whether clipping moved an edge by a pixel; less is rounding, not a fault."""

    @property
    def usable(self) -> Bool[np.ndarray, " n"]:
        """Whether there is something left of the box."""
        return (self.boxes[:, 2:] > self.boxes[:, :2]).all(1)

    @property
    def gts(self) -> Bool[np.ndarray, " n"]:
        """Whether it is a gt: usable, of a chosen category, not to be ignored."""
        return self.usable & ~self.ignored & (self.label >= 0)

    @property
    def zero(self) -> Bool[np.ndarray, " n"]:
        """Whether the file gives the box no area."""
        return (self.annotated[:, 2:] == 0).any(1)

    def rows(self, keep: Bool[np.ndarray, " n"]) -> "BoxTable":
        """The rows that are kept."""
        return BoxTable(**{name: column[keep] for name, column in vars(self).items()})


def box_table(rows: list[dict], images: list[dict], label: dict[int | str, int], path: Path) -> BoxTable:
    """The table of a file's annotations. `images` gives the places, `label` maps category ids; `path` is for messages.

    An area that contradicts its box is replaced by width x height, and boxes that look normalised are told: a warning
    each.
    """
    places = {row["id"]: i for i, row in enumerate(images)}
    rows = sorted(rows, key=lambda row: places[row["image_id"]])
    place = np.array([places[row["image_id"]] for row in rows], dtype=np.int64)
    annotated = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    sizes = np.array([(row["width"], row["height"]) for row in images], dtype=np.float64).reshape(-1, 2)[place]

    boxes = np.concatenate([annotated[:, :2], annotated[:, :2] + annotated[:, 2:]], axis=1)
    inside = boxes.clip(0, np.tile(sizes, 2))
    if len(rows) and (annotated <= 1).all() and (annotated >= 0).all() and sizes.max() > 2:
        log.warning(
            "%s: bbox values look normalised (0..1); COCO wants pixels: no side of %d boxes is longer than 1 px",
            *(one_line(path), len(rows)),
        )
    return BoxTable(
        place=place,
        label=np.array([label.get(row["category_id"], -1) for row in rows], dtype=np.int64),
        ignored=np.array([row.get("iscrowd", 0) or row.get("ignore", 0) for row in rows], dtype=bool),
        area=_areas(rows, annotated[:, 2] * annotated[:, 3], path),
        annotated=annotated,
        boxes=inside.astype(np.float32),
        clipped=np.abs(inside - boxes).max(1, initial=0) >= 1,
    )


def _areas(rows: Sequence[dict], sides: Float[np.ndarray, " n"], path: Path) -> Float[np.ndarray, " n"]:
    """The areas as annotated (COCO's are those of masks, at most the box's); where none or no possible one, `sides`."""
    given = np.array([row.get("area", side) for row, side in zip(rows, sides, strict=True)], dtype=np.float64)
    wrong = (given > 1.01 * sides + 1) | (given < 0) | ((given < 1) & (sides >= 4))
    if wrong.any():
        row = rows[int(wrong.argmax())]
        log.warning(
            "%s: %d of %d areas contradict their boxes, and width x height is taken for them; "
            "annotation %s has area %s and bbox %s",
            *(one_line(path), wrong.sum(), len(rows), quoted(row.get("id")), quoted(row["area"]), quoted(row["bbox"])),
        )
    return np.where(wrong, sides, given)
