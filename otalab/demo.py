"""The main job in one command: verify the solvers, train a mini detector on shapes, report with pictures."""

import json
import time
from pathlib import Path

import torch

from otalab.assign import Assignment, Targets, build_assigner
from otalab.data import CocoDataset, make_shapes
from otalab.detect.checkpoint import load_model
from otalab.detect.config import TrainConfig
from otalab.detect.train import train
from otalab.report import Report
from otalab.verify import Verification, detector_cases, random_case, simulated_case, toy_case, verify

RECIPE = {"batch_size": 8, "lr": 2e-3, "epochs": 7, "augment": "flip", "eval_every": 1}


def demo(out: Path, epochs: int | None = None, train_images: int = 2000) -> int:
    """Run it all; everything lands in `out`, the scenes in `out`/shapes. Returns the exit status."""
    began = time.perf_counter()
    print("1/4  verify: every solver against exact solutions")
    verifications = [verify(case) for case in (toy_case(), random_case(), simulated_case())]
    for verification in verifications:
        print(f"\n{verification}")

    print(f"\n2/4  draw {train_images} training and 300 validation scenes")
    data = make_shapes(out / "shapes", train=train_images, val=300, overwrite=True)

    print("\n3/4  train a detector from scratch with optimal transport assignment")
    for name in ("checkpoint.pt", "model.safetensors", "metrics.json"):  # of a former demo
        (out / name).unlink(missing_ok=True)
    recipe = RECIPE | ({"epochs": epochs} if epochs else {})
    config = TrainConfig(data=str(data), out=str(out), **recipe)
    start = time.perf_counter()
    metrics = train(config)
    training_seconds = time.perf_counter() - start

    print("\n4/4  look at what it learnt, and report")
    model, _ = load_model(out)
    dataset = CocoDataset.from_folder(data, "val", cache=True)
    verifications += [verify(case) for case in detector_cases(model, dataset, 2)]
    report = write_report(out, model, dataset, verifications, metrics, training_seconds)
    failed = sum(not check.passed for v in verifications for check in v.checks)
    total = sum(len(v.checks) for v in verifications)
    print(f"\nchecks passed   {total - failed} of {total}")
    print(f"AP              {metrics['AP']:.3f}   on {len(dataset)} held-out scenes")
    print(f"AP50            {metrics['AP50']:.3f}")
    print(f"time            {(time.perf_counter() - began) / 60:.1f} minutes")
    print(f"report          {report}")
    return 1 if failed else 0
