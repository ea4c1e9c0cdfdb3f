"""The record of a run on photos holds what lesson 12 shows: reach, classes with intervals, the command."""

import json
import shlex
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from detect.test_evaluate import noisy

from benchmarks import record_photos
from otalab.cli.main import parser
from otalab.data import CocoDataset
from otalab.detect.config import TrainConfig
from otalab.detect.evaluate import NAMES, coco_metrics
from otalab.detect.train import train
from otalab.lab import photos
from otalab.lab.run_record import read_run


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("lesson12") / "run"
    train(TrainConfig(data=str(shapes), out=str(out), epochs=1, batch_size=4, device="cpu"), progress=False)
    return out


def test_a_record_holds_what_the_lesson_shows(run, shapes, tmp_path, capsys):
    out = tmp_path / "record.json"
    assert record_photos.main([str(run), "--data", str(shapes), "--out", str(out), "--resamples", "3"]) == 0
    record = json.loads(out.read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    for name in NAMES:
        known = metrics[name] is not None
        assert record["metrics"][name] == (pytest.approx(metrics[name], abs=1e-4) if known else None)
    assert record["data"]["train"]["images"] == 16 and record["data"]["val"]["images"] == 8
    assert record["run"]["steps"] == 4
    assert np.mean(record["curves"]["IoU 0.5"]) == pytest.approx(metrics["AP50"], abs=1e-4)
    assert set(record["AP_of_batch_size"]) == {"1", "4", "16"}
    reach, total = record["reach"], record["data"]["val"]["boxes"]
    assert 0 <= reach["sure_own"] <= min(reach["sure_any"], reach["all_own"]) and reach["all_any"] <= total
    assert reach["sure_own"] == record["mistakes"]["gts"]["found"]
    assert str(shapes) not in out.read_text() and str(run) not in out.read_text()
    assert photos.mistakes_of(record).gts.total == record["data"]["val"]["boxes"]
    assert "AP 0.0" in capsys.readouterr().out


def test_a_run_on_some_of_the_images_is_measured_on_those(run, shapes):
    record = read_run(run)
    record = replace(record, settings=record.settings | {"max_images": 5, "seed": 3})
    names = CocoDataset.from_folder(shapes, "train").class_names
    seen, some = (photos.trained_on(record, shapes, names, most) for most in (None, 2))
    assert seen.image_ids == CocoDataset.from_folder(shapes, "train", max_images=5, seed=3).image_ids
    assert len(some) == 2 and set(some.image_ids) < set(seen.image_ids)


def test_classes_are_counted_by_images_and_the_richest_come_first(run, shapes):
    rows = photos.measure(run, shapes)["classes"]
    annotations = CocoDataset.from_folder(shapes, "train").ground_truth()["annotations"]
    images = Counter(category for category, _ in {(row["category_id"], row["image_id"]) for row in annotations})
    assert [row["images"] for row in rows] == sorted((row["images"] for row in rows), reverse=True)
    assert rows[0]["images"] == max(images.values()) and rows[0]["interval"] is None


def test_a_class_with_one_gt_has_no_interval(run, shapes):
    seen = CocoDataset.from_folder(shapes, "val")
    metrics = {f"{kind}/{name}": 0.5 for kind in ("AP", "AP50") for name in seen.class_names}
    said = {name: [0.4, 0.6] for name in seen.class_names}
    for row in photos.class_rows(seen, seen, metrics, said):
        assert row["interval"] == (None if row["gts"] == 1 else [0.4, 0.6])


def test_a_gt_is_reached_by_its_class_or_any_and_by_sure_boxes_or_all():
    gts = [(1, 1, [0, 0, 10, 10]), (1, 2, [50, 0, 10, 10]), (1, 1, [0, 50, 10, 10]), (2, 1, [0, 0, 10, 10])]
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "annotations": [{"image_id": i, "category_id": c, "bbox": box, "iscrowd": 0} for i, c, box in gts]
        + [{"image_id": 2, "category_id": 1, "bbox": [50, 50, 10, 10], "iscrowd": 1}],
    }
    found = [
        (1, 1, [0, 0, 10, 10], 0.9),  # found
        (1, 1, [50, 0, 10, 10], 0.8),  # sure, and of another class
        (1, 1, [0, 50, 10, 10], 0.2),  # right, and unsure
        (1, 2, [0, 50, 10, 10], 0.1),  # a second box on the same gt takes none
        (2, 2, [50, 50, 10, 10], 0.9),  # a crowd region is no gt
    ]
    results = [{"image_id": i, "category_id": c, "bbox": box, "score": score} for i, c, box, score in found]
    said = photos.reach(truth, results, 0.5)
    assert said == {"sure_own": 1, "sure_any": 2, "all_own": 2, "all_any": 3, "chance": 1, "boxes": 5}
    assert photos.reach(truth, [], 0.5) == dict.fromkeys(said, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"recipe": "laptop"},
        {"recipe": "laptop", "epochs": 7, "seed": 2},
        {"sizes": (64, 96), "size": 96, "group": False, "categories": ("dining table", "cat")},
        {"assigner": "ota:q=5", "balance": 0.5},
    ],
)
def test_the_command_of_a_run_gives_its_settings(settings):
    recipe, given = settings.get("recipe"), {k: v for k, v in settings.items() if k != "recipe"}
    made = TrainConfig.from_recipe(recipe, **given) if recipe else TrainConfig(**given)
    words = shlex.split(photos.command(json.loads(json.dumps(asdict(made)))))
    read = {k: v for k, v in vars(parser().parse_args(words[1:])).items() if k in asdict(made)}
    assert words[:2] == ["otalab", "train"] and read.pop("data") == "DATA"
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in read.items()} == settings


def test_an_image_drawn_twice_counts_twice_and_all_of_them_once_give_the_same_ap():
    truth, results = noisy(1)

    class Order(np.random.Generator):
        def __init__(self, order):
            super().__init__(np.random.PCG64(0))
            self.order = np.array(order)

        def integers(self, high, size):
            assert high == size == 6
            return self.order

    same = photos.resample(truth, results, Order([5, 3, 1, 0, 2, 4]))
    assert coco_metrics(*same)["AP"] == pytest.approx(coco_metrics(truth, results)["AP"], abs=1e-12)
    twice, found = photos.resample(truth, results, Order([2] * 6))
    first = truth["images"][2]["id"]
    assert len(twice["annotations"]) == 6 * sum(row["image_id"] == first for row in truth["annotations"])
    assert len(found) == 6 * sum(row["image_id"] == first for row in results)
    assert len({row["id"] for row in twice["annotations"]}) == len(twice["annotations"])


def test_intervals_hold_the_ap_and_depend_on_the_seed_alone():
    truth, results = noisy(3, images=20)
    metrics = coco_metrics(truth, results)
    drawn = photos.intervals(truth, results, 40)
    assert set(drawn) == {"cat", "dog", "owl"}
    for name, (low, high) in drawn.items():
        assert low < metrics[f"AP/{name}"] < high
    assert drawn == photos.intervals(truth, results, 40)


def test_as_many_detections_reach_the_even_score_as_there_are_gts():
    results = [{"score": score} for score in (0.2, 0.9, 0.5)]
    truths = [{"annotations": [{"iscrowd": 1}] + gts * [{"iscrowd": 0}]} for gts in (1, 2, 3, 7)]
    assert [photos.even_score(truth, results) for truth in truths] == [0.9, 0.5, 0.2, 0.2]
    assert photos.even_score(truths[2], []) == photos.even_score({"annotations": []}, results) == 0
