"""All commands and their flags. Nothing here imports torch, so that help and errors about flags appear at once."""

import argparse
import types
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_origin

from otalab import __version__
from otalab.cli.data_flags import add_data
from otalab.cli.flag_parts import MOST_SHAPES, Parser, add_command, at_most, count, output, picture, size
from otalab.detect.config import MOST_BATCH, MOST_EPOCHS, TrainConfig

METAVARS = dict.fromkeys(("data", "out"), "FOLDER") | dict.fromkeys(
    ("recipe", "categories", "assigner", "weights_backbone", "device"), "NAME"
)  # for settings whose type says little
TRACEBACK = "OTALAB_TRACEBACK"  # environment variable that adds the traceback to an internal error


def parser() -> Parser:
    """Build the parser. Its result has in `run` the "module:function" of otalab.cli that carries out the command."""
    top = Parser(
        prog="otalab",
        description="Optimal-transport label assignment for object detection: learn it, check it, train with it.",
        epilog="exit status: 0 done, 1 a check failed, 2 input at fault or out of memory, 3 a fault of otalab itself, "
        "130 interrupted, 141 the reader of the output went away, 143 training ended by SIGTERM and saved."
        f" Errors are reported in one line; {TRACEBACK}=1 adds the traceback if otalab itself is at fault.",
    )
    top.add_argument("--version", action="version", version=f"otalab {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    add = add_command(
        commands, "demo", "demo:run", "verify the solvers, train a mini detector on shapes, write a report"
    )
    add("--out", type=Path, default="runs/demo", help="folder for the run and its report (default: %(default)s)")
    add("--epochs", type=at_most(MOST_EPOCHS), help="epochs to train, instead of the demo's own number")
    scenes = "training scenes to draw (default: %(default)s)"
    add("--train-images", type=at_most(MOST_SHAPES), default=2000, help=scenes)

    add = add_command(
        commands,
        "verify",
        "verify:run",
        "compare all solvers in a table and check them against exact solutions",
        description="Solve problems with every solver, compare the solvers in a table and check them: exact ones must "
        "agree and prove it, Sinkhorn must equal POT's, Newton must meet the row and column sums, and the labels of "
        "`ota` must cost as little as the optimum.",
        epilog="A problem FILE ends in .npz or .json and holds cost (rows x columns), supply (rows) and demand "
        '(columns). A forbidden route costs inf; in JSON: null, "Infinity" or Infinity. Exit status: 0 all checks '
        "passed, 1 one failed, 2 input at fault.",
    )
    problems = "what to verify on: toy, random, image (simulated) or a FILE; repeatable (default: toy random image)"
    sizes = "add a problem for each: 20x400 is random, with 20 rows and 400 columns; 20 is an image with 20 gts"
    add("--problem", nargs="+", action="extend", metavar="NAME", help=problems)
    add("--sizes", nargs="+", type=size, action="extend", default=[], metavar="SIZE", help=sizes)
    add("--seed", type=int, default=0, help="seed of random problems and images (default: %(default)s)")
    methods = "solvers (default: all that can solve the problem; any named here must be able to)"
    add("--methods", nargs="+", action="extend", metavar="NAME", help=methods)
    add("--eps", type=float, default=0.1, help="entropic regularisation (default: %(default)s)")
    add("--iterations", type=at_most(100_000), default=50, help="Sinkhorn iterations (default: %(default)s)")
    add("--exact", action="store_true", help="also certify exact plans in fractions, without rounding or tolerance")
    add("--checkpoint", help="a run's folder: also verify on the problems that its detector meets")
    add("--data", help="with --checkpoint: COCO-format folder to take images from")
    add("--images", type=count, default=3, help="with --checkpoint: how many images (default: %(default)s)")
    add("--json", type=output, help="also write the figures here")
    add("--save", type=output, metavar="FILE", help="also write the problem, if it is a single one, as .npz or .json")
    convergence = "also draw how labels of the last problem converge, as .png or .svg"
    add("--picture", type=picture, metavar="FILE", help=convergence)

    add = add_command(
        commands,
        "compare-assigners",
        "compare_assigners:run",
        "label one image by every assigner, side by side",
        description="Let every assigner label one image from the same predictions. The table shows how many positives "
        "each object gets, which objects get none, what becomes of points that several objects may claim, and how far "
        "each assigner is from the exact optimum.",
        epilog="Annotations are looked for where COCO-format folders keep them: SPLIT/instances.json beside "
        "SPLIT/images/, or annotations/instances_SPLIT2017.json beside SPLIT2017/.",
    )
    add("image", help='an image file of a COCO-format folder, or "shapes" for a drawn scene')
    add("--annotations", type=Path, metavar="FILE", help="COCO annotations of the image (default: found, see below)")
    add("--checkpoint", help="a run's folder: predictions of its detector (default: an untrained detector's)")
    add("--skill", type=float, metavar="S", help="use simulated predictions, of skill 0 (untrained) to 1 (perfect)")
    add("--assigners", nargs="+", metavar="NAME", help="assigners to compare (default: all)")
    add("--objects", type=count, default=8, help="with shapes: objects, as far as they fit (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the scene, weights and simulation (default: %(default)s)")
    add("--picture", type=picture, metavar="FILE", help="also draw the labels of all assigners, as .png or .svg")
    add("--json", type=output, help="also write the figures here")

    add = add_command(commands, "train", "train:run_train", "train a detector on a COCO-format folder")
    commands.choices["train"].usage = "otalab train [--recipe NAME] [--data FOLDER] [--out FOLDER] [SETTING ...]"
    add_settings(commands.choices["train"])
    resume = "resume the run in --out; give the settings that it was started with; only device, workers, "
    resume += "checkpoint_every, eval_every and tensorboard may change"
    add("--resume", action="store_true", help=resume)

    add = add_command(commands, "recipes", "train:run_recipes", "print the settings that `train --recipe` knows")

    add = add_command(
        commands, "eval", "evaluate:run", "measure average precision of a trained detector, COCO's or CrowdHuman's"
    )
    add("checkpoint", help="a run's folder, its model.safetensors, or weights from elsewhere (docs/use.md)")
    add("--data", required=True, help="COCO-format folder")
    add("--split", default="val", help="split to evaluate (default: %(default)s)")
    kinds = "coco: average precision; crowd: AP, MR^-2 and JI as on CrowdHuman, and AP by crowding (default: coco)"
    add("--metrics", choices=("coco", "crowd"), default="coco", help=kinds)
    add("--backend", choices=("pycocotools", "faster-coco-eval"), help="default: faster-coco-eval, if it is installed")
    add("--batch-size", type=at_most(MOST_BATCH), help="images at a time (default: as in training)")
    add("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")
    add("--json", type=output, help="also write the metrics here")
    add("--results", type=output, metavar="FILE", help="also write the detections here, as COCO's results (JSON)")

    add = add_command(
        commands, "compare", "compare_runs:run", "compare training runs side by side, in a table and on a page"
    )
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, two or more")
    add("--out", type=output, default="runs/compare.html", help="the page to write (default: %(default)s)")

    add = add_command(
        commands,
        "study",
        "study:run",
        "train the runs of a plan, and say which differences are more than luck",
        description="Train every method of a plan on its data with its seeds, all else equal, and answer its questions "
        "with intervals that hold together. Each run leaves a card. A run that has a card is not trained again, and a "
        "study that was stopped goes on where it was.",
        epilog="PLAN is a TOML file: title, seeds, settings (flags of `otalab train`), data, methods and contrasts. "
        "docs/studies.md explains it, and benchmarks/plans has some.",
    )
    add("plan", type=Path, metavar="PLAN", help="a TOML file, see below")
    add("--out", type=Path, default="runs/study", help="folder for runs, cards and report.html (default: %(default)s)")
    add("--cards", type=Path, metavar="FOLDER", help="folder of the cards (default: cards in --out)")
    add("--processes", type=count, default=1, help="runs side by side (default: %(default)s)")
    add("--hours", type=float, help="start no new run after this many hours")
    add("--report", action="store_true", help="train nothing; report on the existing cards")

    add = add_command(
        commands,
        "predict",
        "predict:run",
        "detect the objects of images: boxes and drawn pictures",
        description="Detect the objects of images: for each, the boxes as JSON and a picture with the boxes drawn in. "
        "A folder stands for the images directly in it, in natural order: frame2 before frame10. Photos are looked at "
        "upright, as viewers show them, and boxes are in px of the upright photo. If an image cannot be read, a line "
        "says why, the others are still predicted, and the exit status is 2.",
    )
    add("checkpoint", help="a run's folder, its model.safetensors, or weights from elsewhere (docs/use.md)")
    images = "image files, folders of image files, or patterns such as 'frames/*.jpg'"
    add("images", nargs="+", type=Path, help=images)
    add("--out", type=Path, default="runs/predict", help="folder for NAME.json and NAME.png (default: %(default)s)")
    add("--threshold", type=float, default=0.45, help="lowest score to keep, 0..1 (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")

    add = add_command(
        commands,
        "export",
        "export:run",
        "write a trained detector as ONNX or torch.export",
        description="Write a trained detector as a file that runs without otalab. It takes images, float32 "
        "(N, 3, H, W) in 0..1, and gives boxes (N, points, 4), xyxy in px, and scores (N, points, classes) in 0..1. "
        "Dropping boxes that overlap better ones (NMS) is left to you. The file is run on a random image and kept "
        "only if it computes the same as the detector. docs/use.md has a program that detects with it.",
    )
    add("checkpoint", help="a run's folder, its model.safetensors, or weights from elsewhere (docs/use.md)")
    add("--format", choices=("onnx", "torch"), default="onnx", help="onnx: FILE.onnx; torch: FILE.pt2 (default: onnx)")
    add("--out", type=output, required=True, metavar="FILE", help="file to write")
    square = "height and width of the images (default: a square of the side that the detector resizes to)"
    add("--size", nargs=2, type=count, metavar=("H", "W"), help=square)
    add("--batch", type=count, default=1, metavar="N", help="images at a time (default: %(default)s)")

    add = add_command(commands, "bench", "bench:run", "time label assignment against the textbook way")
    add("--rounds", type=at_most(1000), default=7, help="interleaved rounds; medians are shown (default: %(default)s)")
    add("--json", type=output, help="also write the figures here")

    add_data(commands)
    return top


def add_settings(command: argparse.ArgumentParser) -> None:
    """Add a flag for each field of TrainConfig in its section of the help, the recipe first.

    A flag that is not given sets no attribute.
    """
    for field in sorted(fields(TrainConfig), key=lambda field: field.name != "recipe"):
        kind, choices, default = field.type, field.metadata["choices"], field.default
        if section := field.metadata["section"]:
            group = command.add_argument_group(section)
        if get_origin(kind) is types.UnionType:  # "int | None": the flag takes an int, leaving it out means None
            kind = get_args(kind)[0]
        many = get_origin(kind) is tuple
        if many:
            kind = get_args(kind)[0]
        if kind is bool:
            options, default = {"action": argparse.BooleanOptionalAction}, "yes" if default else "no"
        else:
            metavar = METAVARS.get(field.name) or (None if choices else kind.__name__.upper())
            options = {"type": kind, "choices": choices, "nargs": "+" if many else None, "metavar": metavar}
        help = field.metadata["help"] + ("" if default is None else f" (default: {default})")
        group.add_argument("--" + field.name.replace("_", "-"), default=argparse.SUPPRESS, help=help, **options)
