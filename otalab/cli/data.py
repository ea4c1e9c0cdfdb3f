"""`otalab data`: make, fetch and count data sets."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from otalab.data import CocoDataset, ShapesConfig, eval_transforms, fetch_coco, find_split, make_shapes
from otalab.data.bccd import fetch_bccd
from otalab.data.crowdhuman import PERSON, read_crowdhuman
from otalab.data.foreign import Split, write_folder
from otalab.data.manifest import NAME, read_manifest
from otalab.data.voc import read_voc
from otalab.data.yolo import read_yolo
from otalab.errors import InputError

SHOWN_SIDE = 300  # shorter side of an image on the sheet, px


def run_shapes(a: argparse.Namespace) -> None:
    folder = make_shapes(a.out, a.train, a.val, ShapesConfig(seed=a.seed), overwrite=a.overwrite)
    print(f"{a.train} training and {a.val} validation images in {folder}")


def run_coco(a: argparse.Namespace) -> None:
    """Fetch each split of --splits, or the photos of each manifest of --ids, which names its split itself."""
    if a.ids and (a.images or a.categories):
        raise InputError("--ids says which photos and categories; give no --images or --categories beside it")
    options = {"max_images": a.images, "longest_side": a.longest_side, "seed": a.seed, "categories": a.categories}
    for split, ids in [(read_manifest(file).split, file) for file in a.ids] or [(split, None) for split in a.splits]:
        folder = fetch_coco(a.out, split, **options, ids=ids)
        print(f"COCO 2017 {split} in {folder}")
        if a.images or a.categories or ids:
            manifest = read_manifest(folder / split / NAME)
            print(f"  {len(manifest.ids):,} photos, sha256 of their ids {manifest.sha256} ({folder / split / NAME})")


def run_bccd(a: argparse.Namespace) -> None:
    print_splits(*fetch_bccd(a.out, a.longest_side))


def run_crowdhuman(a: argparse.Namespace) -> None:
    splits = read_crowdhuman(a.folder, a.boxes, a.clip)
    print_splits(write_folder(a.out, splits, [PERSON], a.longest_side), splits)


def run_voc(a: argparse.Namespace) -> None:
    splits, names = read_voc(a.folder, a.one_based, a.seed)
    print_splits(write_folder(a.out, splits, names, a.longest_side), splits)


def run_yolo(a: argparse.Namespace) -> None:
    splits, names = read_yolo(a.folder, a.names)
    print_splits(write_folder(a.out, splits, names, a.longest_side), splits)


def print_splits(folder: Path, splits: Mapping[str, Split]) -> None:
    """Print what was read, what was left out and why, and where the new folder is."""
    for name, split in splits.items():
        print(f"{name}:", *(f"  {line}" for line in split.account()), sep="\n")
    print(f"in COCO format in {folder}")


def run_show(a: argparse.Namespace) -> None:
    from otalab.lab.set_table import set_table
    from otalab.viz.contact_sheet import contact_sheet
    from otalab.viz.output import save_figure

    dataset = CocoDataset.from_folder(a.folder, a.split)
    print(set_table(dataset), end="\n\n")
    shown = CocoDataset.from_folder(
        a.folder, a.split, eval_transforms(SHOWN_SIDE, 2 * SHOWN_SIDE), max_images=a.images, seed=a.seed
    )
    images, targets = zip(*shown, strict=True)
    title = f"{len(shown):,} of {len(dataset):,} images of {a.split}"
    save_figure(contact_sheet(images, targets, dataset.class_names, title), a.out)
    print(f"sheet    {a.out}")


def run_summary(a: argparse.Namespace) -> None:
    """Print a summary of both splits. One missing split is reported as such; two raise InputError."""
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
