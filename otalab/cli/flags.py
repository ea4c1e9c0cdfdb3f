"""All commands and their flags. Nothing here imports torch, so that help and a wrong flag are told at once."""

import argparse
import types
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_origin

from otalab import __version__
from otalab.detect.config import MOST_BATCH, MOST_EPOCHS, TrainConfig
from otalab.errors import one_line

MOST_SHAPES = 10**6  # images of a split, 20 GB of files
TRACEBACK = "OTALAB_TRACEBACK"  # the environment variable that adds the traceback to a fault of otalab's own


class Parser(argparse.ArgumentParser):
    """Tells of a wrong flag as of all input at fault: in one line."""

    def error(self, message: str):
        self.exit(2, f"otalab: error: {one_line(message)}; see {self.prog} --help\n")


def parser() -> Parser:
    """The command line; a parsed one has in `run` the "module:function" of otalab.cli that carries it out."""
    top = Parser(
        prog="otalab",
        description="Optimal-transport label assignment for object detection: learn it, check it, train with it.",
        epilog="exit status: 0 done, 1 a check failed, 2 input at fault or more than memory holds, 3 a fault of otalab "
        "itself, 130 interrupted, 141 the reader of the output went away. Faults are told in one line; "
        f"{TRACEBACK}=1 adds the traceback of one of otalab's own.",
    )
    top.add_argument("--version", action="version", version=f"otalab {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    add = add_command(
        commands, "demo", "demo:run", "verify the solvers, train a mini detector on shapes, write a report"
    )
    add("--out", type=Path, default="runs/demo", help="folder for the run and its report (default: %(default)s)")
    add("--epochs", type=at_most(MOST_EPOCHS), help="train so many epochs instead of the demo's")
    scenes = "training scenes to draw (default: %(default)s)"
    add("--train-images", type=at_most(MOST_SHAPES), default=2000, help=scenes)

    add = add_command(
        commands,
        "verify",
        "verify:run",
        "put all solvers in a table and check them against exact solutions",
        description="Solve problems by every solver, put the solvers in a table and check them: exact ones must "
        "agree and prove it, Sinkhorn must equal POT's, Newton must meet its sums, the labels of `ota` must cost the "
        "optimum.",
        epilog="A problem FILE ends in .npz or .json and holds cost (rows x columns), supply (rows) and demand "
        '(columns). A forbidden route costs inf; in JSON null, "Infinity" or Infinity. Exit status: 0 all checks '
        "passed, 1 one failed, 2 input at fault.",
    )
    problems = "what to verify on: toy, random, image (simulated) or a FILE; repeatable (default: toy random image)"
    sizes = "one more problem each: 20x400 is random, of 20 rows and 400 columns; 20 is an image with 20 gts"
    add("--problem", nargs="+", action="extend", metavar="NAME", help=problems)
    add("--sizes", nargs="+", type=size, action="extend", default=[], metavar="SIZE", help=sizes)
    add("--seed", type=int, default=0, help="seed of random problems and images (default: %(default)s)")
    methods = "solvers (default: all that suit; those named here must suit)"
    add("--methods", nargs="+", action="extend", metavar="NAME", help=methods)
    add("--eps", type=float, default=0.1, help="entropic regularisation (default: %(default)s)")
    add("--iterations", type=at_most(100_000), default=50, help="Sinkhorn iterations (default: %(default)s)")
    add("--exact", action="store_true", help="also certify exact plans in fractions, without rounding or tolerance")
    add("--checkpoint", help="a run's folder: also verify on the problems that its detector meets")
    add("--data", help="with --checkpoint: COCO-format folder to take images from")
    add("--images", type=count, default=3, help="with --checkpoint: how many (default: %(default)s)")
    add("--json", type=Path, help="also write the figures here")
    add("--save", type=Path, metavar="FILE", help="also write the problem, if it is a single one, as .npz or .json")
    convergence = "also draw how labels of the last problem converge, as .png or .svg"
    add("--picture", type=picture, metavar="FILE", help=convergence)

    add = add_command(
        commands,
        "compare-assigners",
        "compare:run",
        "label one image by every assigner, side by side",
        description="Let every assigner label one image from the same predictions: how many positives each object "
        "gets, who gets none, what becomes of points that several objects may claim, and how far each is from the "
        "exact optimum.",
        epilog="Annotations are looked for where COCO-format folders have them: SPLIT/instances.json beside "
        "SPLIT/images/, or annotations/instances_SPLIT2017.json beside SPLIT2017/.",
    )
    add("image", help='an image file of a COCO-format folder, or "shapes" for a drawn scene')
    add("--annotations", type=Path, metavar="FILE", help="COCO annotations of the image (default: found, see below)")
    add("--checkpoint", help="a run's folder: predictions of its detector (default: an untrained detector's)")
    add("--skill", type=float, metavar="S", help="simulated predictions instead, 0 (wild) to 1 (perfect)")
    add("--assigners", nargs="+", metavar="NAME", help="which (default: all)")
    add("--objects", type=count, default=8, help="with shapes: objects, as far as they fit (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the scene, weights and simulation (default: %(default)s)")
    add("--picture", type=picture, metavar="FILE", help="also draw all of them, as .png or .svg")
    add("--json", type=Path, help="also write the figures here")

    add = add_command(commands, "train", "train:run_train", "train a detector on a COCO-format folder")
    add_settings(add)
    resume = "go on with the run in --out; it keeps its settings, but those of machine and housekeeping may change"
    add("--resume", action="store_true", help=resume)

    add = add_command(commands, "recipes", "train:run_recipes", "print the settings that `train --recipe` knows")

    add = add_command(commands, "eval", "train:run_eval", "COCO average precision of a trained detector")
    add("checkpoint", help="a run's folder, its model.safetensors, or weights from elsewhere (docs/use.md)")
    add("--data", required=True, help="COCO-format folder")
    add("--split", default="val", help="which split of it (default: %(default)s)")
    add("--backend", choices=("pycocotools", "faster-coco-eval"), help="default: the faster, if there")
    add("--batch-size", type=at_most(MOST_BATCH), help="images at a time (default: as in training)")
    add("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")
    add("--json", type=Path, help="also write the metrics here")
    add("--results", type=Path, metavar="FILE", help="also write the detections here, as COCO's results (JSON)")

    add = add_command(
        commands, "compare", "compare_runs:run", "put training runs side by side, as a table and as a page"
    )
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, two or more")
    add("--out", type=Path, default="runs/compare.html", help="the page (default: %(default)s)")

    add = add_command(
        commands,
        "predict",
        "predict:run",
        "detect the objects of images: boxes and drawn pictures",
        description="Detect the objects of images: for each, the boxes as JSON and a picture with the boxes drawn in. "
        "A folder stands for the images directly in it, in natural order: frame2 before frame10. Photos are looked at "
        "upright, as viewers show them, and boxes are in px of the upright photo. For an image that cannot be read a "
        "line says why, the others are still predicted, and the exit status is 2.",
    )
    add("checkpoint", help="a run's folder, or its model.safetensors")
    images = "image files, folders of image files, or patterns such as 'frames/*.jpg'"
    add("images", nargs="+", type=Path, help=images)
    add("--out", type=Path, default="runs/predict", help="folder for NAME.json and NAME.png (default: %(default)s)")
    add("--threshold", type=float, default=0.45, help="least score to keep, 0..1 (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")

    add = add_command(
        commands,
        "export",
        "export:run",
        "write a trained detector as ONNX or torch.export",
        description="Write a trained detector as a file that runs without otalab. It takes images, float32 "
        "(N, 3, H, W) in 0..1, and gives boxes (N, points, 4), xyxy in px, and scores (N, points, classes) in 0..1. "
        "Dropping boxes that overlap better ones (NMS) is left to you. The file is run on a random image, and kept "
        "only if it computes what the detector does. docs/use.md has a program that detects with it.",
    )
    add("checkpoint", help="a run's folder, or its model.safetensors")
    add("--format", choices=("onnx", "torch"), default="onnx", help="onnx: FILE.onnx; torch: FILE.pt2 (default: onnx)")
    add("--out", type=Path, required=True, metavar="FILE", help="file to write")
    square = "height and width of the images (default: a square of the side that the detector resizes to)"
    add("--size", nargs=2, type=count, metavar=("H", "W"), help=square)
    add("--batch", type=count, default=1, metavar="N", help="images at a time (default: %(default)s)")

    add = add_command(commands, "bench", "bench:run", "time label assignment against the textbook way")
    add("--rounds", type=at_most(1000), default=7, help="interleaved rounds; medians are kept (default: %(default)s)")
    add("--json", type=Path, help="also write the figures here")

    data = commands.add_parser("data", help="make or fetch data sets", description="Make or fetch data sets.")
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
    add("--splits", nargs="+", choices=("train", "val"), default=["train", "val"], help="(default: both)")
    add("--max-images", type=count, help="only so many photos of each, one by one; all of them otherwise")
    add("--longest-side", type=count, help="with --max-images: shrink the photos to so many px")
    add = add_command(sets, "summary", "data:run_summary", "count images, boxes and classes of a COCO-format folder")
    add("folder", help="COCO-format folder")
    return top


def add_command(
    commands, name: str, run: str, help: str, description: str | None = None, epilog: str | None = None
) -> Callable[..., argparse.Action]:
    """A command that `run` carries out, "module:function" of otalab.cli; returns what adds a flag to it."""
    description = description or help[0].upper() + help[1:] + "."
    command = commands.add_parser(name, help=help, description=description, epilog=epilog)
    command.set_defaults(run=run)
    return command.add_argument


def add_settings(add: Callable[..., argparse.Action]) -> None:
    """A flag for each field of TrainConfig, the recipe first."""
    for field in sorted(fields(TrainConfig), key=lambda field: field.name != "recipe"):
        options = {"dest": field.name, "default": argparse.SUPPRESS, "choices": field.metadata["choices"]}
        kind = field.type
        if get_origin(kind) is types.UnionType:  # "int | None": the flag takes an int, leaving it out means None
            kind = get_args(kind)[0]
        if get_origin(kind) is tuple:
            kind = get_args(kind)[0]
            options |= {"nargs": "+", "metavar": "NAME" if kind is str else kind.__name__.upper()}
        elif not options["choices"]:
            options["metavar"] = kind.__name__.upper()
        help = field.metadata["help"]
        if kind is bool:
            options = {"dest": field.name, "default": argparse.SUPPRESS, "action": argparse.BooleanOptionalAction}
            help += f" (default: {'yes' if field.default else 'no'})"
        else:
            options["type"] = kind
            help += "" if field.default is None else f" (default: {field.default})"
        add("--" + field.name.replace("_", "-"), help=help, **options)


def at_most(most: int) -> Callable[[str], int]:
    """The type of a flag that counts up to `most`: what is made from the number is bounded before it is made."""

    def bounded(text: str) -> int:
        if (number := int(text)) < 1:
            raise argparse.ArgumentTypeError(f"{number} is less than 1")
        if number > most:
            raise argparse.ArgumentTypeError(f"{number} is more than {most:,}")
        return number

    bounded.__name__ = "count"  # argparse names the type in its message
    return bounded


count = at_most(10**9)  # of anything that has no bound of its own here


def size(text: str) -> tuple[int, ...]:
    """The type of --sizes: "20x400" (rows, columns) or "20" (gts,)."""
    try:
        numbers = tuple(count(word) for word in text.split("x"))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2):
        raise argparse.ArgumentTypeError(f"{text!r} is neither ROWSxCOLUMNS nor a number of gts")
    return numbers


def picture(text: str) -> Path:
    """The type of a picture to write."""
    path = Path(text)
    if path.suffix not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"cannot draw {text}: its name must end in .png or .svg")
    return path
