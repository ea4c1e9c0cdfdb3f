"""What of a data set is used, what is left out, and why: in lines of text whose numbers add up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from otalab.data.annotations import choose
from otalab.data.table import BoxTable
from otalab.data.transforms import resized
from otalab.data.wording import shown
from otalab.errors import InputError

_MOST_NAMED = 12  # classes; a line for 80 should still fit on a screen


@dataclass(frozen=True)
class Choice:
    """The images of a file that take part, and how many do not."""

    images: list[int]
    """Places in the file's images, in their order."""
    left_out: dict[str, int]
    """Why, and how many."""


def choose_places(table: BoxTable, count: int, background: int | None, max_images: int | None, seed: int) -> Choice:
    """Choose from `count` images: all with a gt, at most `background` of the others, then at most `max_images` of both.

    Each choice is made by `seed`, and a smaller one is part of a larger one. Raises InputError for a negative number.
    """
    if background is not None and background < 0:
        raise InputError(f"background must be at least 0 images, got {background}")
    if max_images is not None and max_images < 1:
        raise InputError(f"max_images must be at least 1, got {max_images}")
    filled = np.bincount(table.place[table.gts], minlength=count) > 0
    others = np.bincount(table.place[table.usable & ~table.ignored], minlength=count) > 0
    empty = choose(np.flatnonzero(~filled).tolist(), background, seed)
    candidates = np.union1d(np.flatnonzero(filled), np.array(empty, dtype=np.int64))
    kept = choose(candidates.tolist(), max_images, seed)
    dropped = np.setdiff1d(np.flatnonzero(~filled), empty)
    left_out = {
        "without a box": int((~others[dropped]).sum()),
        "without a box of the chosen categories": int(others[dropped].sum()),
        f"beyond max_images {max_images}": len(candidates) - len(kept),
    }
    return Choice(kept, left_out)


def under_a_pixel(
    table: BoxTable, sizes: Int[np.ndarray, "i 2"], size: int | None, max_size: int | None
) -> Bool[np.ndarray, " n"]:
    """Which boxes have a side under 1 px once their images (height, width) are resized, as the transforms drop them."""
    after = np.array([resized(*shape, size, max_size) for shape in sizes.tolist()], dtype=np.int64).reshape(-1, 2)
    scale = (after / sizes).astype(np.float32)[table.place]
    boxes = table.boxes * np.tile(scale[:, ::-1], 2)
    limit = np.tile(after[table.place][:, ::-1], 2).astype(np.float32)
    boxes = np.minimum(boxes, limit)
    return (boxes[:, 2:] - boxes[:, :2] < 1).any(1)


def images_line(used: int, filled: int, left_out: dict[str, int]) -> str:
    """How many images are used, with and without a box, and why others are not."""
    total = used + sum(left_out.values())
    return f"images: {used:,} of {total:,} used, {filled:,} with a box, {used - filled:,} without{_reasons(left_out)}"


def boxes_line(used: int, left_out: dict[str, int]) -> str:
    """How many boxes are used, and why others are not."""
    return f"boxes: {used:,} of {used + sum(left_out.values()):,} used{_reasons(left_out)}"


def classes_line(names: Sequence[str], counts: Sequence[int]) -> str:
    """How many classes there are, the boxes of the most frequent and the sum of the others, and those without a box."""
    order = sorted(range(len(names)), key=lambda label: -counts[label])
    there = [label for label in order if counts[label]]
    named, rest = there[:_MOST_NAMED], there[_MOST_NAMED:]
    parts = [f"{shown(names[label], 40)} {counts[label]:,}" for label in named]
    if rest:
        parts.append(f"{len(rest)} more {sum(counts[label] for label in rest):,}")
    line = f"classes: {len(names)}" + (f" ({', '.join(parts)})" if parts else "")
    absent = [shown(names[label], 40) for label in order if not counts[label]]
    if absent:
        more = f" and {len(absent) - _MOST_NAMED} more" if len(absent) > _MOST_NAMED else ""
        line += f"; {len(absent)} without a box: {', '.join(absent[:_MOST_NAMED])}{more}"
    return line


def _reasons(left_out: dict[str, int]) -> str:
    parts = [f"{count:,} {why}" for why, count in left_out.items() if count]
    return f"; left out: {', '.join(parts)}" if parts else ""
