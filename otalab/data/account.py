"""What of a data set is used, what is left out, and why: in lines of text whose numbers add up."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from otalab.data.table import BoxTable
from otalab.data.transforms import resized
from otalab.errors import InputError, one_line

_MOST_NAMED = 12  # classes; a line for 80 should still fit on a screen


def choose_images(
    table: BoxTable, count: int, background: int | None, max_images: int | None, seed: int
) -> tuple[list[int], dict[str, int]]:
    """Choose from `count` images: all with a gt, at most `background` of the others, then at most `max_images` of both.

    Returns their places in the file's images, and why how many others are left out. Each choice is made by `seed`, and
    a smaller one is part of a larger one. Raises InputError for a negative number.
    """
    filled = np.bincount(table.place[table.gts], minlength=count) > 0
    others = np.bincount(table.place[table.usable & ~table.ignored], minlength=count) > 0
    bare = np.flatnonzero(~filled).tolist()
    empty = choose(bare, background, seed, "background", least=0)
    candidates = sorted(np.flatnonzero(filled).tolist() + empty)
    kept = choose(candidates, max_images, seed)
    dropped = np.setdiff1d(bare, empty).astype(np.int64)
    left_out = {
        "without a box": int((~others[dropped]).sum()),
        "without a box of the chosen categories": int(others[dropped].sum()),
        f"beyond max_images {max_images}": len(candidates) - len(kept),
    }
    return kept, left_out


def choose(items: Sequence, most: int | None, seed: int, name: str = "max_images", least: int = 1) -> list:
    """At most so many of the items, in their order; a smaller choice is part of a larger one."""
    if most is not None and most < least:
        raise InputError(f"{name} must be at least {least}, got {most}")
    if most is None or most >= len(items):
        return list(items)
    order = np.random.default_rng(seed).permutation(len(items))[:most]
    return [items[i] for i in sorted(order)]


def under_a_pixel(
    table: BoxTable, sizes: Int[np.ndarray, "i 2"], size: int | None, max_size: int | None
) -> Bool[np.ndarray, " n"]:
    """Which boxes have a side under 1 px once their images (height, width) are resized, as the transforms drop them."""
    after = np.array([resized(*shape, size, max_size) for shape in sizes.tolist()], dtype=np.int64).reshape(-1, 2)
    scale = (after / sizes).astype(np.float32)[table.place]
    limit = after[table.place].astype(np.float32)
    boxes = np.minimum(table.boxes * np.tile(scale[:, ::-1], 2), np.tile(limit[:, ::-1], 2))
    return (boxes[:, 2:] - boxes[:, :2] < 1).any(1)


def used_line(what: str, used: int, left_out: dict[str, int], more: str = "") -> str:
    """How many images or boxes are used, and why others are not."""
    reasons = ", ".join(f"{count:,} {why}" for why, count in left_out.items() if count)
    line = f"{what}: {used:,} of {used + sum(left_out.values()):,} used{more}"
    return f"{line}; left out: {reasons}" if reasons else line


def classes_line(names: Sequence[str], counts: Sequence[int]) -> str:
    """How many classes there are, the boxes of the most frequent and the sum of the others, and those without a box."""
    order = sorted(range(len(names)), key=lambda label: -counts[label])
    short = [one_line(names[label], 40) for label in order]
    there = sum(count > 0 for count in counts)
    named = min(there, _MOST_NAMED)
    parts = [f"{name} {counts[label]:,}" for name, label in zip(short[:named], order, strict=False)]
    if there > named:
        parts.append(f"{there - named} more {sum(counts[label] for label in order[named:]):,}")
    line = f"classes: {len(names)}" + (f" ({', '.join(parts)})" if parts else "")
    if absent := short[there:]:
        more = f" and {len(absent) - _MOST_NAMED} more" if len(absent) > _MOST_NAMED else ""
        line += f"; {len(absent)} without a box: {', '.join(absent[:_MOST_NAMED])}{more}"
    return line
