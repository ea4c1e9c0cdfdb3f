"""The command line: `otalab COMMAND --help` explains each."""

import argparse
import sys
import types
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args, get_origin

from otalab import __version__
from otalab.cli.compare import add_compare_flags, run_compare
from otalab.cli.faults import STATUSES, TRACEBACK, flush_output, status_of
from otalab.cli.flags import at_most, count
from otalab.cli.predict import add_predict_flags, run_predict
from otalab.cli.verify import add_verify_flags, run_verify
from otalab.detect.config import MOST_BATCH, MOST_EPOCHS, TrainConfig
from otalab.errors import InputError, one_line
from otalab.files import write_json

MOST_SHAPES = 10**6  # images of a split, 20 GB of files


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    0 all went well; 1 a check failed; 2 the input is at fault, or asks for more memory than there is; 3 otalab itself
    is; one line on stderr says how, whatever was raised. 130 interrupted; 141 the reader of the output went away.
    """
    try:
        if hasattr(sys.stdout, "reconfigure"):  # a name that the terminal cannot show is no fault
            sys.stdout.reconfigure(errors="backslashreplace")
        arguments = parser().parse_args(argv)
        status = arguments.run(arguments) or 0
        flush_output()
        return status
    except BrokenPipeError:  # `otalab ... | head`: the reader has what it wanted
        with suppress(OSError):
            flush_output()
        return 141
    except KeyboardInterrupt:
        print("\notalab: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        with suppress(OSError):
            flush_output()
        return status_of(error)


class Parser(argparse.ArgumentParser):
    """Tells of a wrong flag as of all input at fault: in one line."""

    def error(self, message: str):
        self.exit(2, f"otalab: error: {one_line(message)}; see {self.prog} --help\n")


def parser() -> Parser:
    """All commands and their flags."""
    top = Parser(
        prog="otalab",
        description="Optimal-transport label assignment for object detection: learn it, check it, train with it.",
        epilog=f"{STATUSES}. Faults are told in one line; {TRACEBACK}=1 adds the traceback of one of otalab's own.",
    )
    top.add_argument("--version", action="version", version=f"otalab {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = add(commands, "demo", run_demo, "verify the solvers, train a mini detector on shapes, write a report")
    demo.add_argument("--out", default="runs/demo", help="folder for the run and its report (default: %(default)s)")
    demo.add_argument("--epochs", type=at_most(MOST_EPOCHS), help="train so many epochs instead of the demo's")
    demo.add_argument(
        "--train-images",
        type=at_most(MOST_SHAPES),
        default=2000,
        help="training scenes to draw (default: %(default)s)",
    )

    verify = add(commands, "verify", run_verify, "put all solvers in a table and check them against exact solutions")
    add_verify_flags(verify)

    compare = add(commands, "compare-assigners", run_compare, "label one image by every assigner, side by side")
    add_compare_flags(compare)

    train = add(commands, "train", run_train, "train a detector on a COCO-format folder")
    add_settings(train)
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out; it keeps its settings, but --device, --workers and --out itself may change",
    )

    evaluate = add(commands, "eval", run_eval, "COCO average precision of a trained detector")
    evaluate.add_argument("checkpoint", help="a run's folder, or its model.safetensors")
    evaluate.add_argument("--data", required=True, help="COCO-format folder")
    evaluate.add_argument("--split", default="val", help="which split of it (default: %(default)s)")
    evaluate.add_argument(
        "--backend", choices=("pycocotools", "faster-coco-eval"), help="default: the faster, if there"
    )
    evaluate.add_argument("--batch-size", type=at_most(MOST_BATCH), help="images at a time (default: as in training)")
    evaluate.add_argument("--device", default="auto", help="cpu, cuda or auto (default: %(default)s)")
    evaluate.add_argument("--json", type=Path, help="also write the metrics here")

    predict = add(commands, "predict", run_predict, "detect the objects of images: boxes and drawn pictures")
    add_predict_flags(predict)

    bench = add(commands, "bench", run_bench, "time label assignment against the textbook way")
    bench.add_argument(
        "--rounds", type=at_most(1000), default=7, help="interleaved rounds; medians are kept (default: %(default)s)"
    )
    bench.add_argument("--json", type=Path, help="also write the figures here")

    data = add(commands, "data", None, "make or fetch data sets")
    kinds = data.add_subparsers(title="data sets", metavar="SET", required=True)
    shapes = add(kinds, "shapes", run_shapes, "draw the synthetic shapes set, in seconds and without a network")
    shapes.add_argument("--out", default="data/shapes", help="folder (default: %(default)s)")
    shapes.add_argument(
        "--train", type=at_most(MOST_SHAPES), default=2000, help="training images (default: %(default)s)"
    )
    shapes.add_argument(
        "--val", type=at_most(MOST_SHAPES), default=300, help="validation images (default: %(default)s)"
    )
    shapes.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: %(default)s)")
    shapes.add_argument("--overwrite", action="store_true", help="replace another set in the folder")
    coco = add(kinds, "coco", run_coco, "download COCO 2017, or some photos of it")
    coco.add_argument("--out", default="data/coco", help="folder (default: %(default)s)")
    coco.add_argument("--splits", nargs="+", choices=("train", "val"), default=["train", "val"], help="(default: both)")
    coco.add_argument("--max-images", type=count, help="only so many photos of each, one by one; all of them otherwise")
    coco.add_argument("--longest-side", type=count, help="with --max-images: shrink the photos to so many px")
    summary = add(kinds, "summary", run_summary, "count images, boxes and classes of a COCO-format folder")
    summary.add_argument("folder", help="COCO-format folder")
    return top


def add(commands, name: str, run, help: str) -> argparse.ArgumentParser:
    """One command."""
    command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    command.set_defaults(run=run)
    return command


def add_settings(command: argparse.ArgumentParser) -> None:
    """A flag for each field of TrainConfig."""
    for field in fields(TrainConfig):
        options = {"dest": field.name, "default": argparse.SUPPRESS, "choices": field.metadata["choices"]}
        kind = field.type
        if get_origin(kind) is types.UnionType:  # "int | None": the flag takes an int, leaving it out means None
            kind = get_args(kind)[0]
        if get_origin(kind) is tuple:
            options |= {"nargs": "+", "metavar": "NAME"}
            kind = str
        elif not options["choices"]:
            options["metavar"] = kind.__name__.upper()
        help = field.metadata["help"]
        if field.default not in (None, MISSING):
            help += f" (default: {field.default})"
        command.add_argument("--" + field.name.replace("_", "-"), type=kind, help=help, **options)


def run_demo(a) -> int:
    from otalab.cli.demo import demo

    return demo(Path(a.out), epochs=a.epochs, train_images=a.train_images)


def run_train(a) -> int:
    from otalab.detect.train import train

    given = {f.name: getattr(a, f.name) for f in fields(TrainConfig) if hasattr(a, f.name)}
    if given.get("categories"):
        given["categories"] = tuple(given["categories"])
    config = TrainConfig(**given)
    print_metrics(train(config, resume=a.resume))
    print(f"\nweights: {config.out}/model.safetensors   log: {config.out}/log.jsonl")
    return 0


def run_eval(a) -> int:
    from otalab.detect.checkpoint import load_model
    from otalab.detect.device import pick_device
    from otalab.detect.evaluate import evaluate, open_split
    from otalab.detect.limits import evaluation_batch

    model, description = load_model(a.checkpoint, pick_device(a.device))
    dataset = open_split(a.data, a.split, description["class_names"])
    batch = evaluation_batch(dataset.sizes, model.image_size, a.batch_size or description["batch_size"])
    metrics = evaluate(model, dataset, batch, backend=a.backend)
    print_metrics(metrics)
    if a.json:
        write_json(a.json, metrics)
    return 0


def run_bench(a) -> int:
    from dataclasses import asdict

    from otalab.lab.timing import bench_assign

    result = bench_assign(a.rounds)
    print(result)
    if a.json:
        write_json(a.json, asdict(result))
    return 0


def run_shapes(a) -> int:
    from otalab.data import ShapesConfig, make_shapes

    folder = make_shapes(a.out, a.train, a.val, ShapesConfig(seed=a.seed), overwrite=a.overwrite)
    print(f"{a.train} training and {a.val} validation images in {folder}")
    return 0


def run_coco(a) -> int:
    from otalab.data.download import fetch_coco

    for split in a.splits:
        folder = fetch_coco(a.out, split, max_images=a.max_images, longest_side=a.longest_side)
        print(f"COCO 2017 {split} in {folder}")
    return 0


def run_summary(a) -> int:
    from otalab.data.coco import CocoDataset, find_split

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
    return 0


def print_metrics(metrics: dict[str, float]) -> None:
    """AP in two columns: the totals, then each category."""
    for name, value in metrics.items():
        if "/" not in name:
            print(f"{name:<8}{value:8.3f}")
    print(f"\n{'category':<20}{'AP':>8}{'AP50':>8}")
    for name, value in metrics.items():
        if name.startswith("AP/"):
            print(f"{name[3:]:<20}{value:8.3f}{metrics['AP50/' + name[3:]]:8.3f}")
