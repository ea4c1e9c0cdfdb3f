"""The commands of `otalab data` and their flags."""

import argparse
from collections.abc import Callable
from pathlib import Path

from otalab.cli.flag_parts import MOST_SHAPES, add_command, at_most, count, picture

MOST_SHOWN = 200  # images on a sheet; all of them are in memory


def add_data(commands) -> None:
    """Add the command `data`, with a subcommand for each data set and format, and for looking at them."""
    what = "make, fetch, read and look at data sets"
    data = commands.add_parser("data", help=what, description=what[0].upper() + what[1:] + ".")
    sets = data.add_subparsers(title="data sets", metavar="SET", required=True)
    add = add_command(
        sets, "shapes", "data:run_shapes", "draw the synthetic shapes set, in seconds and without a network"
    )
    add("--out", default="data/shapes", help="folder (default: %(default)s)")
    add("--train", type=at_most(MOST_SHAPES), default=2000, help="training images (default: %(default)s)")
    add("--val", type=at_most(MOST_SHAPES), default=300, help="validation images (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the scenes (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace another set in the folder")
    add = add_command(sets, "coco", "data:run_coco", "download COCO 2017, or some photos of it")
    add("--out", default="data/coco", help="folder (default: %(default)s)")
    add("--splits", nargs="+", choices=("train", "val"), default=["train", "val"], help="splits (default: both)")
    some = "only N photos of each split, drawn from the categories in turn (default: all)"
    add("--images", type=count, metavar="N", help=some)
    add("--max-images", type=count, dest="images", help=argparse.SUPPRESS)  # the old name of --images
    add("--categories", type=names, metavar="A,B", help="only photos that show one of these, and only their boxes")
    add("--seed", type=int, default=0, help="seed of the choice: same photos on any machine (default: %(default)s)")
    add("--ids", nargs="+", type=Path, default=[], metavar="FILE", help="photos that manifests list (SPLIT/ids.json)")
    add("--longest-side", type=count, metavar="PX", help="with some photos: shrink them and boxes to PX at most")
    add = add_command(sets, "bccd", "data:run_bccd", "download 364 photos of blood cells, a small set to practise on")
    add_output(add, "data/bccd")
    add = add_command(sets, "crowdhuman", "data:run_crowdhuman", "read CrowdHuman's .odgt annotations")
    add("folder", help="with annotation_train.odgt or annotation_val.odgt, or both, and the photos in Images/")
    add_output(add, "data/crowdhuman")
    kinds = "whole persons, their visible parts, or heads (default: %(default)s)"
    add("--boxes", choices=("full", "visible", "head"), default="full", help=kinds)
    add("--clip", action="store_true", help="cut boxes at the edges of their photo; otherwise they may reach beyond")
    add = add_command(sets, "voc", "data:run_voc", "read a folder of PASCAL VOC's XML files")
    add("folder", help="with Annotations/, JPEGImages/ and ImageSets/Main/ (without these, a fifth is drawn for val)")
    add_output(add, "data/voc")
    add("--one-based", action="store_true", help="pixels are counted from 1, as in VOC's own sets")
    add("--seed", type=int, default=0, help="seed of that draw (default: %(default)s)")
    add = add_command(sets, "yolo", "data:run_yolo", "read a folder of YOLO's text files")
    add("folder", help="with images/SPLIT/ and labels/SPLIT/, or SPLIT/images/ and SPLIT/labels/")
    add_output(add, "data/yolo")
    add("--names", type=Path, metavar="FILE", help="the classes (default: data.yaml, classes.txt or obj.names there)")
    add = add_command(sets, "show", "data:run_show", "draw images with their boxes; print sizes, classes and crowding")
    add("folder", help="COCO-format folder")
    add("--split", default="train", help="split to show (default: %(default)s)")
    add("--images", type=at_most(MOST_SHOWN), default=24, help="how many to draw (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of their choice (default: %(default)s)")
    add("--out", type=picture, default="runs/show.png", metavar="FILE", help=".png or .svg (default: %(default)s)")
    add = add_command(sets, "summary", "data:run_summary", "count images, boxes and classes of a COCO-format folder")
    add("folder", help="COCO-format folder")


def add_output(add: Callable[..., argparse.Action], folder: str) -> None:
    """Add the flags of commands that write photos into a new COCO-format folder."""
    add("--out", default=folder, help="new folder in COCO format (default: %(default)s)")
    add("--longest-side", type=count, metavar="PX", help="shrink photos and boxes so that no side exceeds PX")


def names(text: str) -> list[str]:
    """The type of --categories: names separated by commas."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no category")
    return found
