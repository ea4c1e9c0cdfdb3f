"""`otalab demo`: verify the solvers, train a mini detector on shapes, report with pictures."""

import argparse
import time
from dataclasses import asdict
from itertools import islice

import torch

from otalab.assign import AnchorPoints, Assignment, Targets, build_assigner
from otalab.data import CocoDataset, make_shapes
from otalab.detect.checkpoint import load_model
from otalab.detect.config import TrainConfig
from otalab.detect.detector import Detector, as_targets
from otalab.detect.recipes import AS_PUBLISHED
from otalab.detect.run_folder import require_free
from otalab.detect.train import train
from otalab.lab.cases import Case, detector_cases, random_case, simulated_case, toy_case
from otalab.lab.run_record import read_run
from otalab.lab.verify import Verification, verify
from otalab.transport.methods import EXACT
from otalab.viz.report import Column, Report
from otalab.viz.run_report import add_run_sections, headline_cards
from otalab.viz.story import assignment_story

RECIPE = AS_PUBLISHED | {"batch_size": 8, "lr": 2e-3, "epochs": 5, "augment": "flip", "eval_every": 2}
SOLVER_COLUMNS = [
    Column("method"),
    Column("objective", format=".6f"),
    Column("relative_gap", "certified gap", ".1e"),
    Column("row_error", "row error", ".1e"),
    Column("col_error", "column error", ".1e"),
    Column("labels_changed", "labels off the LP", "d"),
    Column("time_ratio", "time / linprog's", ".3g", best=min),
]


def run(a: argparse.Namespace) -> int:
    """Run the demo and write everything into `a.out`, the scenes into its folder `shapes`. Returns 1 if a check failed.

    Raises InputError, before the work begins, if `a.out` holds a run that is not a demo's, or foreign files with the
    names of a run's files.
    """
    began = time.perf_counter()
    out = a.out
    recipe = RECIPE | ({"epochs": a.epochs} if a.epochs else {})
    config = TrainConfig(data=str(out / "shapes"), out=str(out), **recipe)
    if not (out / "shapes" / "shapes.json").exists():  # only the run of an earlier demo is replaced
        require_free(out, resume=False)
    print("1/4  verify: every solver against exact solutions")
    verifications = [verified(case) for case in (toy_case(), random_case(), simulated_case())]

    print(f"\n2/4  draw {a.train_images} training and 300 held-out scenes", flush=True)
    make_shapes(out / "shapes", train=a.train_images, val=300, overwrite=True)

    print("\n3/4  train a detector from scratch with optimal transport assignment", flush=True)
    for name in ("checkpoint.pt", "model.safetensors", "metrics.json", "detections.json"):  # left by an earlier demo
        (out / name).unlink(missing_ok=True)
    start = time.perf_counter()
    metrics = train(config)
    minutes = (time.perf_counter() - start) / 60

    print("\n4/4  look at what it learnt, and report", flush=True)
    model, _ = load_model(out)
    heldout = CocoDataset.from_folder(config.data, "val")
    verifications += [verified(case) for case in detector_cases(model, heldout, 2)]
    checks = [check for verification in verifications for check in verification.checks]
    passed = f"{sum(check.passed for check in checks)} of {len(checks)}"
    report = Report(
        "Labels by optimal transport",
        "Every solver checked against an exact one, and a small detector trained with the exact labels.",
    )
    exact = [row for v in verifications for row in v.comparison.rows if row.method in EXACT]
    gap = max(abs(row.relative_gap) for row in exact)
    largest = ("largest gap", f"{gap:.0e}", "of an exact solver, certified by its prices")
    run = read_run(out)
    report.add_cards([*headline_cards(run), ("checks", passed, "passed"), largest])
    report_labels(report, model, heldout)
    report_solvers(report, verifications)
    add_run_sections(report, run, heldout)

    print(f"\nchecks   {passed} passed")
    print(f"AP       {metrics['AP']:.3f} on {len(heldout)} held-out scenes")
    print(f"AP50     {metrics['AP50']:.3f}")
    print(f"time     {(time.perf_counter() - began) / 60:.1f} minutes, {minutes:.1f} of them training")
    print(f"report   {report.write(out / 'report.html')}")
    return 0 if all(check.passed for check in checks) else 1


def verified(case: Case) -> Verification:
    """Verify the case and print the result."""
    verification = verify(case)
    print(f"\n{verification}", flush=True)
    return verification


def report_labels(report: Report, model: Detector, heldout: CocoDataset) -> None:
    """Add a section that shows a scene, its cost matrix, the plan and the positives."""
    image, targets, points, assignment = contested_scene(model, heldout)
    report.add_section(
        "Who learns what",
        "Each object offers as many labels as its best predictions overlap it (k). Shipping them to anchor points has "
        "a cost, classification plus box loss; the plan of least total cost says which point learns which object.",
    )
    report.add_figure(
        assignment_story(image, points, assignment, targets, heldout.class_names),
        "A held-out scene, assigned from the trained detector's predictions.",
        f"A scene with {len(targets)} objects, the cost matrix, the optimal plan and the anchor points that each "
        "object's labels went to.",
    )


def report_solvers(report: Report, verifications: list[Verification]) -> None:
    """Add a section with a table of solvers for each problem."""
    report.add_section(
        "Which solver to trust",
        "The exact solvers agree, and their prices prove that no plan costs less. Fifty Sinkhorn iterations at "
        "eps 0.1 end elsewhere: a cost below the optimum means that the plan breaks its column sums.",
    )
    for verification in verifications:
        rows = [asdict(row) for row in verification.comparison.rows]
        report.add_table(rows, SOLVER_COLUMNS, verification.title)


def contested_scene(model: Detector, heldout: CocoDataset) -> tuple[torch.Tensor, Targets, AnchorPoints, Assignment]:
    """Of the first 100 scenes, the one of 1 to 7 objects with the most ambiguous points: the best one to look at."""
    assigner = build_assigner("ota")

    def contested(scene: tuple[torch.Tensor, dict]) -> int:
        image, target = scene
        points = AnchorPoints.for_image(tuple(image.shape[-2:]), strides=model.backbone.strides)
        return int((assigner.prior(points, target["boxes"]).sum(dim=0) > 1).sum())

    few = [(image, target) for image, target in islice(heldout, 100) if 1 <= len(target["labels"]) <= 7]
    image, target = max(few, key=contested)
    with torch.inference_mode():
        points, (predictions,) = model.predict([image])
    targets = as_targets(target)
    return image, targets, points, assigner(points, predictions, targets)
