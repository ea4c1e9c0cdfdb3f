"""A summary of a data set: its box sizes, its crowding and its classes."""

from collections.abc import Iterable

import numpy as np

from otalab.data.coco import CocoDataset
from otalab.errors import one_line
from otalab.lab.gt_bins import CROWDING, CROWDING_EDGES, crowding
from otalab.lab.mistakes import as_tensors, by_image, gts_and_crowds

SMALL, LARGE = 32, 96  # px, as in COCO: objects are small below the first and large from the second on
MOST_CLASSES = 20  # rows of the table; the other classes share one line


def set_table(dataset: CocoDataset) -> str:
    """Lines of text: images, boxes, sizes and crowding of the set, and a table of its classes.

    The size of a box is the square root of its width times its height, in px. Its crowding is its largest IoU with
    another box of the image, of any class. Regions to ignore and boxes without area do not count.
    """
    gts, _ = gts_and_crowds(dataset.ground_truth()["annotations"])
    rows = [row for row in gts if row["bbox"][2] > 0 and row["bbox"][3] > 0]
    images = by_image(rows)
    crowded = np.array([value for members in images.values() for value in crowding(as_tensors(members)[0]).tolist()])
    ordered = [row for members in images.values() for row in members]
    sizes = np.array([np.sqrt(row["bbox"][2] * row["bbox"][3]) for row in ordered])
    counts = np.array([*map(len, images.values()), *[0] * (len(dataset) - len(images))])
    kinds = np.bincount(np.digitize(sizes, (SMALL, LARGE)), minlength=3).tolist()
    bins = np.bincount(np.digitize(crowded, CROWDING_EDGES), minlength=len(CROWDING)).tolist()
    height, width = (_range(side) for side in dataset.sizes.T)
    lines = [
        f"images      {len(dataset):,}; width {width} px, height {height} px",
        f"boxes       {len(rows):,}; an image {_range(counts)}, on average {np.mean(counts):.1f}",
        f"box size    {_range(sizes)} px; {_shares(('small', 'medium', 'large'), kinds)}",
        f"crowding    {_shares([f'IoU {name}' for name in CROWDING], bins)}",
        "",
        f"{'class':<24}{'boxes':>9}{'images':>9}{'size px':>9}{'IoU >= 0.5':>12}",
    ]
    ids = np.array([row["category_id"] for row in ordered])
    holders = np.array([row["image_id"] for row in ordered])
    found = [(name, ids == i) for i, name in zip(dataset.category_ids, dataset.class_names, strict=True)]
    found.sort(key=lambda item: -item[1].sum())
    lines += [_class_line(name, own, holders, sizes, crowded) for name, own in found[:MOST_CLASSES] if own.any()]
    if rest := [own.sum() for _, own in found[MOST_CLASSES:] if own.any()]:
        lines.append(f"{f'{len(rest)} more classes':<24}{sum(rest):>9,}")
    if empty := sum(not own.any() for _, own in found):
        lines.append(f"{empty} of {len(found)} classes without a box")
    return "\n".join(lines)


def _class_line(name: str, own: np.ndarray, holders: np.ndarray, sizes: np.ndarray, crowded: np.ndarray) -> str:
    share = 100 * (crowded[own] >= CROWDING_EDGES[-1]).mean()
    numbers = f"{own.sum():>9,}{len(np.unique(holders[own])):>9,}{np.median(sizes[own]):>9.0f}{share:>10.0f} %"
    return f"{one_line(name, 23):<24}{numbers}"


def _range(values: np.ndarray) -> str:
    """The least, the largest and the median value, as text."""
    if not len(values) or values.min() == values.max():
        return f"{values[0]:.0f}" if len(values) else "-"
    return f"{values.min():.0f} to {values.max():.0f} (half up to {np.median(values):.0f})"


def _shares(names: Iterable[str], counts: Iterable[int]) -> str:
    total = max(1, sum(counts))
    return ", ".join(f"{name}: {100 * count / total:.0f} %" for name, count in zip(names, counts, strict=True))
