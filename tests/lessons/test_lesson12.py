"""The checker of lesson 12 evaluates changed runs itself; the committed records are what the lesson and docs say."""

import json
import shlex
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from otalab.cli.main import main, parser
from otalab.data.manifest import read_manifest
from otalab.detect import build_detector
from otalab.detect.checkpoint import load_model, load_state
from otalab.detect.evaluate import evaluate, open_split
from otalab.lab import photos
from otalab.lessons import lesson12


def config(folder) -> dict:
    return json.loads((Path(folder) / "config.json").read_text())


def reload(folder, split="val", key="AP", change=lambda model, folder: model) -> float:
    """The right answer; the options are mistakes."""
    model, description = load_model(folder)
    dataset = open_split(config(folder)["data"], split, description["class_names"])
    return evaluate(change(model, folder), dataset, 4, progress=False)[key]


def untrained(model, folder):
    return build_detector(num_classes=model.num_classes)


def last_weights(model, folder):
    model.load_state_dict(load_state(folder / "checkpoint.pt")["model"])
    return model


def average_of_the_state(model, folder):
    model.load_state_dict(load_state(folder / "checkpoint.pt")["average"])
    return model


def all_metrics(folder) -> dict:
    return {"AP": reload(folder), "AP50": 0.0}


def by_command(folder) -> float:
    out = folder / "again.json"
    main(["eval", str(folder), "--data", config(folder)["data"], "--json", str(out)])
    return json.loads(out.read_text())["AP"]


def pycocotools(data, results) -> np.float64:
    """AP of a file of results, by the evaluator itself."""
    truth = COCO(str(Path(data) / "val" / "instances.json"))
    run = COCOeval(truth, truth.loadRes(str(results)), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats[0]


def by_results_and_pycocotools(folder) -> np.float64:
    data, out = config(folder)["data"], folder / "results.json"
    main(["eval", str(folder), "--data", data, "--results", str(out)])
    return pycocotools(data, out)


def by_a_loop_of_their_own(folder) -> np.float64:
    """Image by image, as a detector of torchvision is evaluated."""
    model, description = load_model(folder)
    dataset = open_split(config(folder)["data"], "val", description["class_names"])
    rows = []
    for image, target in (dataset[i] for i in range(len(dataset))):
        with torch.no_grad():
            (found,) = model.eval()([image])
        boxes, labels, scores = (found[key].tolist() for key in ("boxes", "labels", "scores"))
        for (x1, y1, x2, y2), label, score in zip(boxes, labels, scores, strict=True):
            row = {"image_id": int(target["image_id"]), "category_id": dataset.category_ids[label], "score": score}
            rows.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    out = folder / "rows.json"
    out.write_text(json.dumps(rows))
    return pycocotools(config(folder)["data"], out)


def by_the_average_of_the_state(folder) -> torch.Tensor:
    return torch.tensor(reload(folder, change=average_of_the_state), dtype=torch.float64)


@pytest.mark.parametrize(
    "answer",
    [
        reload,
        all_metrics,
        by_the_average_of_the_state,
        by_command,
        by_results_and_pycocotools,
        by_a_loop_of_their_own,
    ],
)
def test_an_evaluation_of_the_weights_passes_with_the_reason(answer):
    verdict = lesson12.check(answer)
    assert verdict.passed and "how to build the model" in verdict.message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda folder: json.loads((folder / "metrics.json").read_text())["AP"], "metrics.json"),
        (lambda folder: 100 * reload(folder), "percent"),
        (lambda folder: reload(folder, key="AP50"), "AP50"),
        (lambda folder: reload(folder, key="AP75"), "AP75"),
        (lambda folder: round(reload(folder), 3), "rounded"),
        (lambda folder: reload(folder, split="train"), "held out"),
        (lambda folder: reload(folder, change=last_weights), "moving average"),
        (lambda folder: reload(folder, change=untrained), "learnt nothing"),
        (lambda folder: 0.4, "same AP for runs of different weights"),
        (lambda folder: reload(folder) + 0.01, "Not the AP"),
        (lambda folder: load_model(folder)[0].train()([]), "evaluation mode"),
        (lambda folder: 1 / 0, "ZeroDivisionError"),
        (lambda: 0.4, "TypeError"),
        (lambda folder: None, "one number"),
        (lambda folder: "0.4 AP", "one number"),
        (lambda folder: {"AP50": 0.4}, "one number"),
        (lambda folder: [0.4, 0.5], "one number"),
        (lambda folder: float("nan"), "one number"),
    ],
)
def test_a_wrong_way_gets_the_hint_that_fits_it(answer, said):
    verdict = lesson12.check(answer)
    assert not verdict.passed and said in verdict.message, verdict


@pytest.mark.parametrize("answer", [None, 0.45, "0.45", {"AP": 0.45}])
def test_what_is_no_function_gets_a_hint(answer):
    verdict = lesson12.check(answer)
    assert not verdict.passed and "function" in verdict.message


def test_the_runs_and_the_wrong_ways_have_aps_of_their_own():
    for run in lesson12.runs():
        assert run.metrics["AP"] > 0.05
        wrong = [run.stored, run.on_train, run.last_weights, run.metrics["AP50"], run.metrics["AP75"]]
        assert all(abs(value - run.metrics["AP"]) > 10 * lesson12.CLOSE for value in wrong)


def test_the_committed_record_is_of_photos_small_and_whole():
    record = lesson12.recorded()
    assert lesson12.RECORD.stat().st_size <= 60_000
    assert record["data"]["classes"] == 80 and record["run"]["backbone"] == "mobilenet_v2"
    assert np.mean(record["curves"]["IoU 0.5"]) == pytest.approx(record["metrics"]["AP50"], abs=1e-4)
    assert np.mean([row["AP"] for row in record["classes"]]) == pytest.approx(record["metrics"]["AP"], abs=1e-4)
    said = photos.mistakes_of(record)
    assert said.gts.total == record["data"]["val"]["boxes"] and said.gts.found == said.detections.found
    assert said.detections.total == said.gts.total, "as many detections as gts"


def test_the_record_says_how_it_was_made_and_what_was_seen():
    record = lesson12.recorded()
    parser().parse_args(shlex.split(record["run"]["command"])[1:])
    reach, gts = record["reach"], record["data"]["val"]["boxes"]
    assert reach["sure_own"] == record["mistakes"]["gts"]["found"] < reach["sure_any"] < reach["all_any"] <= gts
    assert reach["chance"] < reach["all_any"] and reach["sure_own"] < reach["all_own"] < reach["all_any"]
    assert max(record["AP_of_batch_size"].values()) - min(record["AP_of_batch_size"].values()) < 5e-4, (
        "padding has no say"
    )
    for row in record["classes"]:
        assert (row["interval"] is None) == (row["gts"] == 1), row


def test_the_figures_of_the_kept_run_on_cells_are_those_of_the_page_on_training():
    cells = lesson12.recorded(lesson12.CELLS)
    parser().parse_args(shlex.split(cells["command"])[1:])
    (row,) = [
        line
        for line in (Path(__file__).parents[2] / cells["figures_from"]).read_text().splitlines()
        if line.startswith(f"| `{cells['command']}` |")
    ]
    figures = [*cells["metrics"].values(), *cells["after_5_epochs"].values()]
    figures += [value for each in cells["classes"].values() for value in each.values()]
    assert all(f"{value:.3f}" in row for value in figures) and f"{cells['minutes']} minutes on one core" in row


def test_the_rungs_of_the_ladder_are_commands_and_their_figures_are_those_measured():
    (path,) = (Path(__file__).parents[2] / "notebooks").glob("12_*.ipynb")
    cells = (cell.source for cell in nbformat.read(path, as_version=4).cells)
    (ladder,) = (source for source in cells if "| rung |" in source)
    rows = {line.split(" | ")[0].strip("| "): line for line in ladder.splitlines() if line.startswith("| ")}
    commands = [each for row in rows.values() for each in row.split("`") if "otalab " in each]
    assert len(commands) == 13
    for command in commands:
        parser().parse_args(shlex.split(command[command.index("otalab") :])[1:])
    photo = lesson12.recorded()
    assert photo["run"]["command"].split("--data")[0] in rows["some hundred photos of COCO"]
    for rung, record in (("blood cells", lesson12.recorded(lesson12.CELLS)), ("some hundred photos of COCO", photo)):
        assert "AP {AP:.3f}, AP50 {AP50:.3f}".format(**record["metrics"]) in rows[rung]
    # forward and backward of an 800 x 1344 image, counted (docs/scaling.md); the subset's are 512 px, most of them 4:3
    work = 10_000 * 24 * 1212e9 * (512 * 683) / (800 * 1344) / 3600  # of 24 epochs, operations / 3600
    hours = " to ".join(f"{work / rate:.1f}" for rate in (120e12, 15e12))
    assert f"{hours} hours of arithmetic at 120 to 15 TFLOP/s" in rows["10,000 photos of COCO, the same for all"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_photos_of_the_record_are_those_whose_ids_are_published(split):
    manifest = read_manifest(Path(__file__).parents[2] / "data" / "ids" / f"lesson12_{split}.json")
    said = lesson12.recorded()["data"][split]
    assert (said["images"], said["ids_sha256"]) == (len(manifest.ids), manifest.sha256)
