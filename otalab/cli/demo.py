"""The main job in one command: verify the solvers, train a mini detector on shapes, report with pictures."""

import time
from dataclasses import asdict
from pathlib import Path

import torch

from otalab.assign import AnchorPoints, Assignment, Targets, build_assigner
from otalab.data import CocoDataset, make_shapes
from otalab.detect.checkpoint import load_model
from otalab.detect.config import TrainConfig
from otalab.detect.detector import Detector
from otalab.detect.run_folder import read_log, require_free
from otalab.detect.train import train
from otalab.errors import InputError
from otalab.lab.cases import detector_cases, random_case, simulated_case, toy_case
from otalab.lab.verify import Verification, verify
from otalab.transport.methods import EXACT
from otalab.viz.detections import detection_grid
from otalab.viz.report import Column, Report
from otalab.viz.story import assignment_story
from otalab.viz.training import training_figure

RECIPE = {"batch_size": 8, "lr": 2e-3, "epochs": 5, "augment": "flip", "eval_every": 1}
SOLVER_COLUMNS = [
    Column("method", "method"),
    Column("objective", "objective", ".6f"),
    Column("relative_gap", "certified gap", ".1e"),
    Column("row_error", "row error", ".1e"),
    Column("col_error", "column error", ".1e"),
    Column("labels_changed", "labels off the LP", "d"),
    Column("time_ratio", "time / linprog's", ".3g", best=min),
]


def demo(out: Path, epochs: int | None = None, train_images: int = 2000) -> int:
    """Run it all; everything lands in `out`, the scenes in `out`/shapes. Returns the exit status.

    Raises InputError, before the work begins, when `out` holds a run or files that are no demo's.
    """
    began = time.perf_counter()
    recipe = RECIPE | ({"epochs": epochs} if epochs else {})
    config = TrainConfig(data=str(out / "shapes"), out=str(out), **recipe)
    require_demo(out)
    print("1/4  verify: every solver against exact solutions")
    verifications = []
    for case in (toy_case(), random_case(), simulated_case()):
        verifications.append(verify(case))
        print(f"\n{verifications[-1]}", flush=True)

    print(f"\n2/4  draw {train_images} training and 300 held-out scenes", flush=True)
    make_shapes(out / "shapes", train=train_images, val=300, overwrite=True)

    print("\n3/4  train a detector from scratch with optimal transport assignment", flush=True)
    for name in ("checkpoint.pt", "model.safetensors", "metrics.json"):  # of a former demo
        (out / name).unlink(missing_ok=True)
    start = time.perf_counter()
    metrics = train(config)
    minutes = (time.perf_counter() - start) / 60

    print("\n4/4  look at what it learnt, and report", flush=True)
    model, _ = load_model(out)
    heldout = CocoDataset.from_folder(config.data, "val", cache=True)
    for case in detector_cases(model, heldout, 2):
        verifications.append(verify(case))
        print(f"\n{verifications[-1]}")
    report = build_report(model, heldout, out, verifications, metrics, minutes).write(out / "report.html")

    checks = [check for verification in verifications for check in verification.checks]
    passed = sum(check.passed for check in checks)
    print(f"\nchecks   {passed} of {len(checks)} passed")
    print(f"AP       {metrics['AP']:.3f} on {len(heldout)} held-out scenes")
    print(f"AP50     {metrics['AP50']:.3f}")
    print(f"time     {(time.perf_counter() - began) / 60:.1f} minutes, {minutes:.1f} of them training")
    print(f"report   {report}")
    return 0 if passed == len(checks) else 1


def require_demo(out: Path) -> None:
    """Raise InputError unless what `out` holds, if anything, is a former demo's, which a new one replaces."""
    if not (out / "shapes" / "shapes.json").exists():
        require_free(out, resume=False)
        if (out / "report.html").exists():
            raise InputError(f"{out} holds a report.html that is no demo's; choose another folder (--out)")


def build_report(
    model: Detector,
    heldout: CocoDataset,
    out: Path,
    verifications: list[Verification],
    metrics: dict[str, float],
    minutes: float,
) -> Report:
    """The page that shows what the demo did."""
    checks = [check for verification in verifications for check in verification.checks]
    passed = sum(check.passed for check in checks)
    exact = [row for v in verifications for row in v.comparison.rows if row.method in EXACT]
    gap = max(abs(row.relative_gap) for row in exact)
    report = Report(
        "Labels by optimal transport",
        "Every solver checked against an exact one, and a small detector trained with the exact labels.",
    )
    report.add_cards(
        [
            ("AP", f"{metrics['AP']:.3f}", f"COCO's, {len(heldout)} held-out scenes"),
            ("AP50", f"{metrics['AP50']:.3f}", "IoU at least 0.5"),
            ("training", f"{minutes:.1f} min", f"from scratch, {torch.get_num_threads()} threads"),
            ("checks", f"{passed} of {len(checks)}", "passed"),
            ("largest gap", f"{gap:.0e}", "of an exact solver, certified by its prices"),
        ]
    )

    image, target, points, assignment = contested_scene(model, heldout)
    targets = Targets(target["boxes"], target["labels"])
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

    report.add_section(
        "Which solver to trust",
        "The exact solvers agree, and their prices prove that no plan costs less. Fifty Sinkhorn iterations at "
        "eps 0.1 end elsewhere: a cost below the optimum means that the plan breaks its column sums.",
    )
    for verification in verifications:
        rows = [asdict(row) for row in verification.comparison.rows]
        report.add_table(rows, SOLVER_COLUMNS, verification.title)

    report.add_section("What the detector learnt", learnt(out))
    report.add_figure(
        training_figure(read_log(out)), "Losses and held-out AP during training.", "Falling losses and rising AP."
    )
    kinds = [
        {"class": name, "AP": metrics[f"AP/{name}"], "AP50": metrics[f"AP50/{name}"]}
        for name in heldout.class_names
        if f"AP/{name}" in metrics
    ]
    total = {"class": "all", "AP": metrics["AP"], "AP50": metrics["AP50"]}
    columns = [Column("class"), Column("AP", format=".3f"), Column("AP50", format=".3f")]
    report.add_table([*kinds, total], columns, "Average precision a class", highlight=lambda row: row["class"] == "all")
    report.add_table(
        [{"size": size, "AP": metrics[key]} for size, key in (("under 32 px", "APs"), ("32 to 96 px", "APm"))],
        [Column("size"), Column("AP", format=".3f")],
        "Average precision by object size (side of a square of equal area)",
    )

    scenes = [heldout[index] for index in range(8)]
    with torch.inference_mode():
        detections = model([image for image, _ in scenes])
    report.add_section("See for yourself", "The first eight held-out scenes, not chosen.")
    report.add_figure(
        detection_grid([i for i, _ in scenes], [t for _, t in scenes], detections, heldout.class_names, 4, 0.55),
        "Ground truth above, detections beneath.",
        "Eight scenes, each with its true boxes above and the detected boxes beneath.",
    )
    return report


def learnt(out: Path) -> str:
    """The last evaluation in words."""
    evaluations = [line for line in read_log(out) if "metrics" in line]
    first, last = evaluations[0]["metrics"], evaluations[-1]["metrics"]
    return f"AP went from {first['AP']:.3f} after the first epoch to {last['AP']:.3f} after {len(evaluations)}."


def contested_scene(
    model: Detector, heldout: CocoDataset, most_objects: int = 7
) -> tuple[torch.Tensor, dict, AnchorPoints, Assignment]:
    """The scene of few objects in which the most anchor points could learn several: the best one to look at."""
    best, most = None, -1
    for index in range(min(100, len(heldout))):
        image, target = heldout[index]
        if not 1 <= len(target["labels"]) <= most_objects:
            continue
        points = AnchorPoints.for_image(tuple(image.shape[-2:]), strides=model.backbone.strides)
        prior = build_assigner("ota").prior(points, target["boxes"])
        contested = int((prior.sum(dim=0) > 1).sum())
        if contested > most:
            best, most = (image, target), contested
    image, target = best
    with torch.inference_mode():
        points, (predictions,) = model.predict([image])
    assignment = build_assigner("ota")(points, predictions, Targets(target["boxes"], target["labels"]))
    return image, target, points, assignment
