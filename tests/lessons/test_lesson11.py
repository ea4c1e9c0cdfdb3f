"""The checker of lesson 11 holds a predicted order against the runs, and claims no more than they show."""

import json

import pytest

from benchmarks import record_study
from otalab.data import CocoDataset
from otalab.lab.study import Run, crowded_images, paired_difference, values
from otalab.lessons import lesson11


def runs(**bases: float) -> list[Run]:
    """Four seeds an assigner around a mean, with a little noise that differs from assigner to assigner."""
    noise = ([0.001, -0.002, 0.0, 0.001], [-0.001, 0.001, 0.002, -0.002], [0.002, 0.0, -0.001, -0.001])
    return [
        Run(name, seed, dict.fromkeys(("all", "crowded", "apart"), base + noise[row % 3][seed]))
        for row, (name, base) in enumerate(bases.items())
        for seed in range(4)
    ]


CLEAR = runs(ota=0.30, fcos=0.25, atss=0.2501)


def test_an_order_that_agrees_with_the_pairs_told_apart_passes_and_says_how_many_they_are():
    for order in (["ota", "fcos", "atss"], ("ota", "atss", "fcos")):
        verdict = lesson11.check(order, CLEAR)
        assert verdict.passed and "2 of 3 pairs" in verdict.message and "silent" in verdict.message


def test_an_order_against_them_gets_their_number_and_not_their_names():
    verdict = lesson11.check(["fcos", "ota", "atss"], CLEAR)
    assert not verdict.passed and "tell 2 of 3 pairs apart, and 1 of them" in verdict.message
    assert "fcos" not in verdict.message


def test_runs_that_tell_nothing_apart_contradict_no_order():
    verdict = lesson11.check(["atss", "ota"], runs(ota=0.3, atss=0.3))
    assert verdict.passed and "no pair apart" in verdict.message


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (None, "Write down an order of ota, fcos, atss"),
        ("ota", "a list of names"),
        ([1, 2, 3], "a list of names"),
        (["ota", "fcos"], "stands in the order once; yours has ota, fcos"),
        (["ota", "fcos", "simota"], "stands in the order once"),
        (["ota", "ota", "fcos"], "stands in the order once"),
        ([], "yours has none"),
    ],
)
def test_no_order_and_half_orders_get_a_hint(order, said):
    verdict = lesson11.check(order, CLEAR)
    assert not verdict.passed and said in verdict.message


def test_without_runs_there_is_nothing_to_check():
    assert "runs" in lesson11.check(["ota", "fcos", "atss"]).message


def test_many_pairs_need_wider_intervals():
    two = lesson11.pairs(runs(ota=0.30, fcos=0.29))["ota", "fcos"]
    of_three = lesson11.pairs(runs(ota=0.30, fcos=0.29, atss=0.28))["ota", "fcos"]
    assert of_three.mean == two.mean and of_three.high - of_three.low > two.high - two.low


def test_the_scenes_have_one_class_and_crowds(tmp_path):
    folder = lesson11.crowd_set(tmp_path / "scenes", train=4, val=12)
    again = (folder / "val" / "instances.json").read_text()
    lesson11.crowd_set(folder, train=4, val=12)
    assert (folder / "val" / "instances.json").read_text() == again
    dataset = CocoDataset.from_folder(folder, "val")
    assert dataset.class_names == ["shape"] and 0 < len(crowded_images(dataset)) < len(dataset)
    assert {a["category_id"] for a in json.loads(again)["annotations"]} == {1}


def test_the_recorded_study_shows_what_the_lesson_says():
    kept, _ = lesson11.recorded()

    def told(a, b):
        return paired_difference(values(kept, a), values(kept, b)).separated

    ahead = ("ota:q=10", "simota", "simota-price")
    assert all(told(name, "ota") and values(kept, name).mean() > values(kept, "ota").mean() for name in ahead)
    assert not any(told(name, "ota") for name in ("fcos", "atss", "tal"))
    assert not told("simota-price", "simota") and not told("simota", "ota:q=10")


def test_the_command_that_makes_the_record_says_what_it_did(tmp_path, monkeypatch):
    monkeypatch.setattr(lesson11, "RECORD", tmp_path / "study.json")
    small = ["--assigners", "fcos", "ota:q=10", "--seeds", "1", "--train", "8", "--val", "4", "--epochs", "1"]
    assert record_study.main([*small, "--processes", "1", "--out", str(tmp_path / "runs")]) == 0
    made, how = lesson11.recorded()
    assert [(run.assigner, run.seed) for run in made] == [("fcos", 0), ("ota:q=10", 0)]
    assert how["command"] == f"python -m benchmarks.record_study {' '.join(small)}"
    assert (how["train"], how["val"], how["epochs"]) == (8, 4, 1)


def test_the_recorded_study_is_whole():
    kept, how = lesson11.recorded()
    names = {run.assigner for run in kept}
    assert names >= set(lesson11.ASSIGNERS) and "record_study" in how["command"]
    assert {(run.assigner, run.seed) for run in kept} == {(name, seed) for name in names for seed in range(5)}
    assert all(0 <= ap <= 1 for run in kept for ap in run.ap.values())
