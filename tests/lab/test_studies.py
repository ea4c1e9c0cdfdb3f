"""A study trains what its plan asks for, once; its cards say what the runs were."""

import json
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from detect.runs import log_of
from processes import PROCESSES, in_one_thread

from otalab.data import CocoDataset, ShapesConfig
from otalab.errors import InputError
from otalab.lab.card import card_path, read_card, write_card
from otalab.lab.plan import Contrast, Plan, Scenes
from otalab.lab.study import LabelChanges, data_folder, read_cards, run_path, run_plan, share_changed, side_by_side

from .cards import card

SETTINGS = {"epochs": 2, "batch_size": 4, "warmup": 2, "device": "cpu"}
SCENES = Scenes(8, 4, True, ShapesConfig(image_size=64, max_size=40.0))
PLAN = Plan("t", {"drawn": SCENES}, {"ota": {}, "fcos": {}}, (3,), SETTINGS, (Contrast("ota", "fcos", "?"),))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished study of two runs: its folder and its cards."""
    folder = tmp_path_factory.mktemp("study")
    threads = torch.get_num_threads()
    cards = run_plan(PLAN, folder, progress=False)
    assert torch.get_num_threads() == threads
    return folder, cards


def test_runs_differ_in_nothing_but_the_method(done):
    folder, cards = done
    assert [(each.data, each.method, each.seed) for each in cards] == [("drawn", "ota", 3), ("drawn", "fcos", 3)]
    ours, theirs = (log_of(run_path(folder, job)) for job in PLAN.jobs())
    assert ours[0]["lr"] == theirs[0]["lr"] and ours[0]["loss"] != theirs[0]["loss"]
    differ = {name for name, value in cards[0].settings.items() if cards[1].settings[name] != value}
    assert differ == {"assigner"}


def test_what_has_a_card_is_not_trained_again(done):
    folder, cards = done
    written = [path.stat().st_mtime_ns for path in sorted(folder.rglob("log.jsonl"))]
    assert str(run_plan(PLAN, folder, progress=False)) == str(cards)  # NaN is not equal to itself
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("log.jsonl"))] == written and len(written) == 2
    assert not list(folder.rglob("checkpoint.pt"))  # ten times the weights, and of no use once the run is done


def test_a_card_says_what_became_of_the_run(done):
    folder, (ota, _) = done
    log = [line for line in log_of(run_path(folder, PLAN.jobs()[0])) if "loss" in line]
    gts = sum(line["gts"] for line in log[:2])
    assert len(log) == 4 and len(ota.epochs) == 2
    assert ota.epochs[0]["positives per gt"] == round(sum(line["positives"] for line in log[:2]) / gts, 3)
    assert ota.epochs[1]["loss"] == round((log[2]["loss"] + log[3]["loss"]) / 2, 4)
    assert ota.epochs[0]["labels changed"] is None and 0 <= ota.epochs[1]["labels changed"] <= 1
    metrics = json.loads((run_path(folder, PLAN.jobs()[0]) / "metrics.json").read_bytes())
    assert ota.value("metrics/AP") == metrics["AP"]
    assert sum(each["gts"] for each in ota.size.values()) == ota.scenes["val"]["boxes"]
    assert sum(each["gts"] for each in ota.crowding.values()) == ota.scenes["val"]["boxes"]
    assert ota.scenes["train"]["images"] == 8 and set(ota.seconds) == {"data", "forward", "assignment", "backward"}
    assert ota.settings["epochs"] == 2 and "data" not in ota.settings and "out" not in ota.settings
    assert str(folder) not in card_path(folder / "cards", PLAN.jobs()[0]).read_text()  # no path of this machine


def test_a_card_is_read_as_it_was_written(tmp_path):
    made = card("d", "ota:q=10", 7, 0.25)
    path = write_card(tmp_path, made)
    assert path == tmp_path / "d" / "ota q=10-7.json" and read_card(path) == made
    nothing = read_card(write_card(tmp_path, card("d", "ota", 0, float("nan"))))
    assert math.isnan(nothing.metrics["APs"]) and math.isnan(nothing.value("size/under 16/AP"))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"data": 3}', "\0"])
def test_a_damaged_card_is_named(tmp_path, content):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(InputError, match=r"card.json is no card of a run"):
        read_card(tmp_path / "card.json")


def test_a_number_that_a_card_lacks_is_named():
    for path in ("metrics/AR", "nothing", "epochs/0", "metrics"):
        with pytest.raises(InputError, match=rf"d/ota-0 has no number {path}"):
            card("d", "ota", 0, 0.1).value(path)


def test_a_card_of_other_settings_is_refused(done):
    folder, _ = done
    other = Plan("t", PLAN.data, PLAN.methods, (3,), SETTINGS | {"epochs": 3})
    with pytest.raises(InputError, match=r"ota-3.json is of epochs=2, not 3; choose another folder"):
        run_plan(other, folder, progress=False)


def test_a_card_of_other_scenes_is_refused(done):
    folder, _ = done
    scenes = Scenes(8, 4, True, replace(SCENES.shapes, spread=0.5))
    other = Plan("t", {"drawn": scenes}, PLAN.methods, (3,), SETTINGS)
    with pytest.raises(InputError, match=r"ota-3.json is of scenes=.*'spread': 1.0.*, not .*'spread': 0.5"):
        read_cards(other, folder / "cards")


def test_a_study_whose_time_is_over_begins_no_run(tmp_path):
    assert run_plan(PLAN, tmp_path, hours=0.0, progress=False) == []
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match="a process at least, not 0"):
        run_plan(PLAN, tmp_path, processes=0)


def test_scenes_of_one_class_keep_their_boxes(tmp_path):
    plain = data_folder(Scenes(3, 2, False, SCENES.shapes), tmp_path / "plain")
    one = data_folder(Scenes(3, 2, True, SCENES.shapes), tmp_path / "one")
    assert data_folder(Scenes(3, 2, True, SCENES.shapes), tmp_path / "one") == one
    many, single = (json.loads((folder / "train" / "instances.json").read_text()) for folder in (plain, one))
    assert [a["bbox"] for a in many["annotations"]] == [a["bbox"] for a in single["annotations"]]
    assert {a["category_id"] for a in single["annotations"]} == {1}
    assert CocoDataset.from_folder(one, "val").class_names == ["shape"]
    assert data_folder("elsewhere", tmp_path / "none") == "elsewhere" and not (tmp_path / "none").exists()


def test_the_share_of_labels_that_change_is_of_the_points_that_learn_a_gt():
    before, now = torch.tensor([-1, 0, 0, 1, -2]), torch.tensor([-1, 0, 1, -1, -2])
    assert share_changed([before], [now]) == round(2 / 3, 5)  # points 1, 2 and 3 learn a gt, 2 and 3 change
    assert share_changed([before, now], [now, now]) == round(2 / 5, 5)
    assert share_changed([before * 0 - 1], [before * 0 - 1]) == 0
    assert share_changed([before * 0 - 1], [before * 0 - 2]) == 0  # ignored, where it was background


def test_labels_are_not_compared_across_a_stop(done):
    folder, _ = done
    labels = LabelChanges(CocoDataset.from_folder(folder / "data" / "drawn", "train"))
    labels.changed, labels.last = [], None
    from otalab.detect.checkpoint import load_model

    model, _ = load_model(run_path(folder, PLAN.jobs()[0]))
    labels.look(3, model)
    labels.look(4, model)
    assert labels.changed == [None, None, None, None, 0.0]


def hold(file: Path) -> None:
    list(side_by_side([partial(Path.touch, file), *[partial(time.sleep, 600)] * 2], 2, math.inf))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for the children of a process")
def test_runs_end_with_the_study_that_is_killed(tmp_path):
    study = PROCESSES.Process(target=hold, args=(tmp_path / "up",))
    study.start()
    while not (tmp_path / "up").exists():
        assert study.is_alive()
        time.sleep(0.02)
    runs = Path(f"/proc/{study.pid}/task/{study.pid}/children").read_text().split()
    assert len(runs) >= 2
    study.kill()
    study.join()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in runs):
        assert time.monotonic() < end, "a run goes on without its study"
        time.sleep(0.02)


def begin(rank: int, folder) -> None:
    run_plan(PLAN, folder, progress=False)


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_with_the_same_cards(done, tmp_path):
    _, whole = done
    first = PROCESSES.Process(target=in_one_thread, args=(0, begin, tmp_path))
    first.start()
    while not list(tmp_path.glob("cards/*/ota-3.json")):  # the first of the two runs is done
        assert first.is_alive()
        time.sleep(0.02)
    first.kill()
    first.join()
    assert len(read_cards(PLAN, tmp_path / "cards")) == 1
    again = run_plan(PLAN, tmp_path, processes=2, progress=False)
    assert str([each.metrics for each in again]) == str([each.metrics for each in whole])
    assert [[e["loss"] for e in each.epochs] for each in again] == [[e["loss"] for e in each.epochs] for each in whole]
