"""The table of detectors compares like with like."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks is a folder of the repository, not of the package

from benchmarks.detector import our_fcos, plain, share_table, speed_table
from benchmarks.device import CPU
from benchmarks.training import Setting, noise, torchvision_fcos
from otalab.detect.frozen import AppliedNorm
from otalab.detect.padding import LeanReLU6
from otalab.lab.timing import Timer


def test_both_detectors_learn_as_many_backbone_weights_and_freeze_their_norms():
    ours, theirs = our_fcos(), torchvision_fcos(Setting(size=(64, 64)), CPU)
    learning = [sum(p.numel() for p in m.backbone.body.parameters() if p.requires_grad) for m in (ours, theirs)]
    assert learning[0] == learning[1] > 20e6
    norms = [sum(isinstance(m, FrozenBatchNorm2d) for m in model.modules()) for model in (ours, theirs)]
    assert norms == [53, 53]
    few = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (ours, theirs)]
    assert few[0] == pytest.approx(few[1], rel=1e-3)  # theirs has biases in the towers, ours has scales


def test_the_norms_of_the_baseline_are_layers():
    assert not any(isinstance(layer, AppliedNorm) for layer in plain("mobilenet_v2").modules())
    folded, ours = plain("mobilenet_v2", fold=True), our_fcos("mobilenet_v2")
    assert all(any(isinstance(layer, AppliedNorm) for layer in model.modules()) for model in (folded, ours))
    assert not any(isinstance(layer, LeanReLU6) for layer in folded.modules())


def test_torchvision_keeps_the_size_of_the_images():
    images, _ = noise([(64, 64)] * 2)
    assert torchvision_fcos(Setting(size=(64, 64)), CPU).transform(images)[0].tensors.shape == torch.Size(
        [2, 3, 64, 64]
    )


@pytest.mark.slow
def test_the_tables_have_their_rows():
    rows = speed_table(64, Timer(1)).rows
    assert [row.way.split(",")[0] for row in rows] == ["torchvision", "otalab"] * 2
    assert rows[0].times == rows[2].times == 1 and all(row.value > 0 for row in rows)
    (row,) = share_table((64, 64), Timer(1)).rows
    assert 0 < row.assign_seconds < row.seconds and row.percent == 100 * row.assign_seconds / row.seconds


def test_the_figures_in_prose_are_the_measured_ones():
    folder = Path(__file__).parents[2] / "benchmarks"
    tables = {t["name"]: t["rows"] for t in json.loads((folder / "detector.json").read_text())["tables"]}
    rows = {row["way"]: row for name in ("peak memory", "torchvision", "folding") for row in tables[name]}
    inference, training = (rows[f"otalab, {task}, images/s"]["times"] for task in ("inference", "training"))
    memory = [rows[f"otalab, {task}, GB"]["times"] for task in ("inference", "training")]
    folded = [rows[f"norms folded{lean}, steps/s"]["times"] for lean in ("", ", ReLU6 without copies")]
    share = tables["assignment"][0]["percent"]
    seen = f"Seen: inference {inference:.2f}x, training {training:.2f}x, memory {memory[0]:.2f}x and {memory[1]:.2f}x; "
    seen += f"folded {folded[0]:.2f}x, with the leaner ReLU6 {folded[1]:.2f}x; "
    assert f"{seen}assignment {share:.2f} %" in (folder / "README.md").read_text()
