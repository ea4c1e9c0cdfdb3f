"""Studies: intervals as in the textbooks, crowds told from the rest, and runs that differ in the assigner alone."""

import json

import numpy as np
import pytest
import torch
from detect.runs import log_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from otalab.data import CocoDataset
from otalab.errors import InputError
from otalab.lab.study import Run, ap_by_crowding, crowded_images, interval, paired_difference, study, values

shares = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def held_out(folder, boxes: dict[int, list[tuple]]) -> CocoDataset:
    """Grey images of 40 x 30 px by id, with boxes (x, y, w, h) px of one class."""
    (folder / "val" / "images").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in boxes]
    for image in images:
        Image.new("RGB", (40, 30)).save(folder / "val" / "images" / image["file_name"])
    gts = [(i, box) for i, here in boxes.items() for box in here]
    annotations = [
        {"id": n, "image_id": i, "category_id": 1, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}
        for n, (i, box) in enumerate(gts, 1)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "shape"}]}
    (folder / "val" / "instances.json").write_text(json.dumps(content))
    return CocoDataset.from_folder(folder, "val")


def crowd_and_pair(folder) -> CocoDataset:
    """Image 1: two boxes that overlap by IoU 1/3; image 2: two that touch; image 3: none."""
    return held_out(folder, {1: [(5, 5, 10, 10), (10, 5, 10, 10)], 2: [(5, 5, 10, 10), (15, 5, 10, 10)], 3: []})


def test_the_interval_is_students():
    sample = [0.2, 0.1, 0.4, 0.35]
    theirs = stats.ttest_1samp(sample, 0).confidence_interval(0.9)
    found = interval(sample, level=0.9)
    assert (found.mean, found.low, found.high) == pytest.approx((0.2625, theirs.low, theirs.high))


@given(shares, st.floats(-0.5, 0.5))
def test_what_a_seed_does_to_both_cancels_in_pairs(sample, lift):
    found = paired_difference(np.array(sample) + lift, sample)
    assert found.mean == pytest.approx(lift, abs=1e-9)
    assert found.high - found.low < 1e-6


@given(shares, st.randoms(use_true_random=False))
def test_the_other_way_round_is_the_negative(sample, random):
    other = random.sample(sample, len(sample))
    there, back = paired_difference(sample, other), paired_difference(other, sample)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.separated == back.separated


def test_intervals_without_zero_separate():
    assert paired_difference([0.5, 0.6, 0.7], [0.1, 0.21, 0.3]).separated
    assert paired_difference([0.1, 0.21, 0.3], [0.5, 0.6, 0.7]).separated
    assert not paired_difference([0.5, 0.6, 0.7], [0.6, 0.5, 0.7]).separated
    assert not paired_difference([0.5, 0.6], [0.5, 0.6]).separated


def test_too_few_values_and_unequal_numbers_are_named():
    with pytest.raises(InputError, match="two values, got 1"):
        interval([0.3])
    with pytest.raises(InputError, match="got 2 and 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


def test_values_are_in_the_order_of_their_seeds():
    runs = [Run("ota", seed, {"all": seed / 10, "crowded": 0.0, "apart": 0.0}) for seed in (2, 0, 1)]
    assert values(runs, "ota").tolist() == [0, 0.1, 0.2]
    with pytest.raises(InputError, match="no run of 'atss'; there is ota"):
        values(runs, "atss")


def test_an_image_is_crowded_when_two_boxes_overlap_enough(tmp_path):
    dataset = crowd_and_pair(tmp_path)
    assert crowded_images(dataset) == {1}
    assert crowded_images(dataset, iou=0.34) == set()


def test_a_detector_that_fails_in_crowds_has_ap_apart_alone(tmp_path):
    dataset = crowd_and_pair(tmp_path)
    perfect = [{**gt, "score": 0.9} for gt in dataset.ground_truth()["annotations"]]
    assert ap_by_crowding(dataset, perfect) == {"all": 1, "crowded": 1, "apart": 1}
    found = ap_by_crowding(dataset, [result for result in perfect if result["image_id"] == 2])
    assert found["crowded"] == 0 and found["apart"] == 1 and 0 < found["all"] < 1


def test_without_a_crowd_its_ap_is_not_a_number(tmp_path):
    dataset = held_out(tmp_path, {1: [(5, 5, 10, 10)]})
    assert np.isnan(ap_by_crowding(dataset, [])["crowded"])


def test_runs_differ_in_nothing_but_the_assigner_and_a_stopped_study_goes_on(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # threads of other tests would stand in line with these
    asked = {"epochs": 1, "batch_size": 8, "warmup": 2, "max_images": 16, "device": "cpu"}
    threads = torch.get_num_threads()
    runs = study(shapes, tmp_path, ["ota", "fcos"], [3], progress=False, **asked)
    assert [(run.assigner, run.seed) for run in runs] == [("ota", 3), ("fcos", 3)]
    assert torch.get_num_threads() == threads
    ours, theirs = log_of(tmp_path / "ota-3"), log_of(tmp_path / "fcos-3")
    assert ours[0]["lr"] == theirs[0]["lr"] and ours[0]["loss"] != theirs[0]["loss"]
    written = (tmp_path / "ota-3" / "log.jsonl").read_text()
    assert study(shapes, tmp_path, ["ota"], [3], progress=False, **asked) == runs[:1]
    assert (tmp_path / "ota-3" / "log.jsonl").read_text() == written, "what is there is not trained again"
    with pytest.raises(InputError, match="epochs=1, not 2"):
        study(shapes, tmp_path, ["ota"], [3], progress=False, **{**asked, "epochs": 2})


@pytest.mark.slow
def test_side_by_side_or_one_after_the_other_is_the_same(shapes, tmp_path):
    asked = {"epochs": 1, "batch_size": 8, "warmup": 2, "max_images": 16, "device": "cpu"}
    side = study(shapes, tmp_path / "side", ["fcos", "ota"], [0], processes=2, progress=False, **asked)
    assert [(run.assigner, run.seed) for run in side] == [("fcos", 0), ("ota", 0)]
    alone = study(shapes, tmp_path / "alone", ["fcos", "ota"], [0], progress=False, **asked)
    for name in ("fcos-0", "ota-0"):
        ours, theirs = (
            [line["loss"] for line in log_of(tmp_path / way / name) if "loss" in line] for way in ("side", "alone")
        )
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert [run.assigner for run in alone] == ["fcos", "ota"]


@pytest.mark.parametrize(("assigners", "seeds", "processes"), [([], [0], 1), (["ota"], [], 1), (["ota"], [0], 0)])
def test_a_study_of_nothing_is_refused(shapes, tmp_path, assigners, seeds, processes):
    with pytest.raises(InputError, match="needs assigners, seeds and a process"):
        study(shapes, tmp_path, assigners, seeds, processes=processes, progress=False)
