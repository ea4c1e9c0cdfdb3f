"""`otalab data`: make, fetch and count data sets."""

import argparse

from otalab.data import CocoDataset, ShapesConfig, fetch_coco, find_split, make_shapes
from otalab.errors import InputError


def run_shapes(a: argparse.Namespace) -> None:
    folder = make_shapes(a.out, a.train, a.val, ShapesConfig(seed=a.seed), overwrite=a.overwrite)
    print(f"{a.train} training and {a.val} validation images in {folder}")


def run_coco(a: argparse.Namespace) -> None:
    for split in a.splits:
        folder = fetch_coco(a.out, split, max_images=a.max_images, longest_side=a.longest_side)
        print(f"COCO 2017 {split} in {folder}")


def run_summary(a: argparse.Namespace) -> None:
    """One split may be missing, and is told; not both."""
    lines, missing = [], []
    for split in ("train", "val"):
        try:
            find_split(a.folder, split)
        except InputError as error:
            missing.append(error)
            lines.append(f"{split}: {error}")
        else:
            dataset = CocoDataset.from_folder(a.folder, split)
            lines += [f"{split}: {dataset.summary()}", *(f"  {line}" for line in dataset.account())]
    if len(missing) == 2:
        raise missing[0]
    print(*lines, sep="\n")
