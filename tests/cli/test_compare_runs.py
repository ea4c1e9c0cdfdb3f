"""`otalab compare`, and the results that `otalab eval` writes."""

import json
import os

import pytest
from command_line import otalab, read

from otalab.data import CocoDataset
from otalab.detect.evaluate import coco_metrics
from otalab.lab.crowd_metrics import crowd_metrics


def test_runs_are_put_side_by_side(train_flags, tmp_path, capsys):
    for name, assigner in (("a", "ota"), ("b", "fcos")):
        assert otalab(*train_flags(out=tmp_path / name, assigner=assigner)) == 0
    capsys.readouterr()
    page = tmp_path / "pages" / "compare.html"
    assert otalab("compare", tmp_path / "a", tmp_path / "b", "--out", page) == 0
    head, first, second, _, said = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["run", "assigner", "AP", "AP50"] and said == f"page     {page}"
    ap = read(tmp_path / "a" / "metrics.json")["AP"]
    assert first.split()[:3] == ["a", "ota", f"{ap:.3f}"] and second.split()[:2] == ["b", "fcos"]
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(("runs", "says"), [(["."], "two runs or more, not 1"), ([".", "x"], "is no folder of a run")])
def test_what_is_no_run_is_told(runs, says, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused("compare", *runs)
    assert os.listdir(tmp_path) == []


def test_eval_writes_the_detections_that_its_metrics_come_from(detector_folder, shapes, tmp_path):
    flags = ["--data", shapes, "--device", "cpu", "--json", tmp_path / "m.json", "--results", tmp_path / "r.json"]
    assert otalab("eval", detector_folder, *flags) == 0
    rows = json.loads((tmp_path / "r.json").read_text())
    assert rows and all(row.keys() == {"image_id", "category_id", "bbox", "score"} for row in rows)
    metrics = coco_metrics(CocoDataset.from_folder(shapes, "val").ground_truth(), rows)
    measured = {name: value for name, value in metrics.items() if value == value}
    said = read(tmp_path / "m.json")
    assert {name: said[name] for name in measured} == pytest.approx(measured) and measured


def test_eval_measures_crowds(detector_folder, shapes, tmp_path, capsys):
    flags = ["--data", shapes, "--device", "cpu", "--json", tmp_path / "m.json", "--results", tmp_path / "r.json"]
    assert otalab("eval", detector_folder, "--metrics", "crowd", *flags) == 0
    truth, rows = CocoDataset.from_folder(shapes, "val").ground_truth(), json.loads((tmp_path / "r.json").read_text())
    metrics, said = crowd_metrics(truth, rows), read(tmp_path / "m.json")
    assert {name: said[name] for name in metrics} == pytest.approx(metrics)
    assert sum(each["gts"] for each in said["crowding"]) == len(truth["annotations"])
    out = capsys.readouterr().out
    assert f"MR^-2   {metrics['MR-2']:8.3f}\n" in out and "largest IoU" in out


def test_results_that_find_no_room_leave_no_file(detector_folder, shapes, tmp_path, full_disk, capsys):
    with full_disk():
        assert otalab("eval", detector_folder, "--data", shapes, "--results", tmp_path / "r.json") == 2
    assert "cannot write" in capsys.readouterr().err and os.listdir(tmp_path) == []
