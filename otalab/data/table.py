"""The annotations of a COCO file as an array, and an account of those that are used, those left out, and why.

Reference counts would make every loader process copy a million dicts; an array has no such counts.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from otalab.data.transforms import resized
from otalab.errors import InputError, one_line, quoted

BOX = np.dtype(
    [
        ("place", np.int64),  # number of its image, from 0
        ("label", np.int64),  # 0..C-1; -1 for a category that was not chosen
        ("annotated", np.float64, 4),  # xywh px, as the file has it
        ("area", np.float64),  # px^2, by which the evaluation tells small from large objects
        ("xyxy", np.float32, 4),  # px, clipped to the image
        ("clipped", bool),  # whether an edge moved by 1 px or more; less is rounding, not a fault
        ("zero", bool),  # whether it has no area in the file
        ("usable", bool),  # whether it has an area after clipping
        ("ignored", bool),  # a region to ignore: neither gt nor background
        ("gt", bool),  # usable, of a chosen category, and not ignored
    ],
    align=True,  # torch needs aligned fields
)
_MOST_NAMED = 12  # classes; a line for 80 classes should still fit on a screen

log = logging.getLogger(__name__)


def box_table(rows: list[dict], images: list[dict], label: dict[int | str, int], path: Path) -> np.ndarray:
    """A `BOX` per annotation, in the order of the images.

    `images` gives the places, `label` maps category ids to labels, and `path` is for messages. An area that contradicts
    its box is replaced by width x height, with a warning. Another warning is logged if all boxes look normalised.
    """
    places = {row["id"]: i for i, row in enumerate(images)}
    rows = sorted(rows, key=lambda row: places[row["image_id"]])
    table = np.zeros(len(rows), BOX)
    table["place"] = [places[row["image_id"]] for row in rows]
    table["label"] = [label.get(row["category_id"], -1) for row in rows]
    table["ignored"] = [bool(row.get("iscrowd", 0) or row.get("ignore", 0)) for row in rows]
    table["annotated"] = annotated = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    table["area"] = _areas(rows, annotated[:, 2] * annotated[:, 3], path)
    table["zero"] = (annotated[:, 2:] == 0).any(1)

    sizes = np.array([(row["width"], row["height"]) for row in images], dtype=np.float64).reshape(-1, 2)[table["place"]]
    if len(rows) and (annotated <= 1).all() and (annotated >= 0).all() and sizes.max() > 2:
        log.warning(
            "%s: bbox values look normalised (0..1); COCO wants pixels: no side of %d boxes is longer than 1 px",
            *(one_line(path), len(rows)),
        )
    boxes = np.concatenate([annotated[:, :2], annotated[:, :2] + annotated[:, 2:]], axis=1)
    inside = boxes.clip(0, np.tile(sizes, 2))
    table["xyxy"], table["clipped"] = inside, np.abs(inside - boxes).max(1, initial=0) >= 1
    table["usable"] = (table["xyxy"][:, 2:] > table["xyxy"][:, :2]).all(1)
    table["gt"] = table["usable"] & ~table["ignored"] & (table["label"] >= 0)
    return table


def _areas(rows: Sequence[dict], sides: Float[np.ndarray, " n"], path: Path) -> Float[np.ndarray, " n"]:
    """The annotated areas, or width x height (`sides`) where an area is missing or impossible.

    COCO's areas are those of masks, so they are at most those of the boxes.
    """
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


def choose(items: Int[np.ndarray, " n"], most: int | None, seed: int) -> Int[np.ndarray, " k"]:
    """Choose at most `most` of the items (None: all), in their order; a smaller choice is part of a larger one."""
    order = np.random.default_rng(seed).permutation(len(items))[:most]
    return items[np.sort(order)]


def choose_images(
    table: np.ndarray, count: int, background: int | None, max_images: int | None, seed: int
) -> tuple[list[int], dict[str, int]]:
    """Choose from `count` images: all with a gt, at most `background` of the others, then at most `max_images` of both.

    Returns the places of the chosen images, and how many others are left out for each reason. Raises InputError for
    `background` under 0 and `max_images` under 1.
    """
    for name, most, least in (("background", background, 0), ("max_images", max_images, 1)):
        if most is not None and most < least:
            raise InputError(f"{name} must be at least {least}, got {most}")
    filled = np.bincount(table["place"][table["gt"]], minlength=count) > 0
    others = np.bincount(table["place"][table["usable"] & ~table["ignored"]], minlength=count) > 0
    bare = np.flatnonzero(~filled)
    empty = choose(bare, background, seed)
    candidates = np.union1d(np.flatnonzero(filled), empty)
    kept = choose(candidates, max_images, seed)
    dropped = np.setdiff1d(bare, empty)
    left_out = {
        "without a box": int((~others[dropped]).sum()),
        "without a box of the chosen categories": int(others[dropped].sum()),
        f"beyond max_images {max_images}": len(candidates) - len(kept),
    }
    return kept.tolist(), left_out


def under_a_pixel(
    table: np.ndarray, sizes: Int[np.ndarray, "i 2"], size: int | None, max_size: int | None
) -> Bool[np.ndarray, " n"]:
    """Which boxes have a side under 1 px after the resize, so that the transforms drop them.

    `sizes` holds the images' heights and widths in px, `size` and `max_size` are as in `eval_transforms`.
    """
    after = np.array([resized(*shape, size, max_size) for shape in sizes.tolist()], dtype=np.int64).reshape(-1, 2)
    scale = (after / sizes).astype(np.float32)[table["place"]]
    limit = after[table["place"]].astype(np.float32)
    boxes = np.minimum(table["xyxy"] * np.tile(scale[:, ::-1], 2), np.tile(limit[:, ::-1], 2))
    return (boxes[:, 2:] - boxes[:, :2] < 1).any(1)


def used_line(what: str, used: int, left_out: dict[str, int], more: str = "") -> str:
    """A line of text: how many images or boxes are used and how many are left out for each reason; they add up."""
    reasons = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
    line = f"{what}: {used:,} of {used + sum(left_out.values()):,} used{more}"
    return f"{line}; left out: {reasons}" if reasons else line


def classes_line(names: Sequence[str], counts: Sequence[int]) -> str:
    """A line of text: the number of classes, the boxes of the most frequent ones, and the classes without a box."""
    order = sorted(range(len(names)), key=lambda label: -counts[label])
    there = [f"{one_line(names[label], 40)} {counts[label]:,}" for label in order if counts[label]]
    rest = sum(counts[label] for label in order[_MOST_NAMED:])
    parts = there[:_MOST_NAMED] + [f"{len(there) - _MOST_NAMED} more {rest:,}"] * (rest > 0)
    line = f"classes: {len(names)}" + (f" ({', '.join(parts)})" if parts else "")
    if absent := [one_line(names[label], 40) for label in order if not counts[label]]:
        more = f" and {len(absent) - _MOST_NAMED} more" if len(absent) > _MOST_NAMED else ""
        line += f"; {len(absent)} without a box: {', '.join(absent[:_MOST_NAMED])}{more}"
    return line
