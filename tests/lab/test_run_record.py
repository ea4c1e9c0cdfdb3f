import json
import math
from dataclasses import asdict

import pytest

from otalab.detect.config import TrainConfig
from otalab.errors import InputError
from otalab.lab.run_record import duration, read_run, run_names, side_by_side

PARTS = {"data_seconds": 1.0, "forward_seconds": 2.0, "assign_seconds": 0.5, "backward_seconds": 3.0}
EVALUATIONS = ((2, 0, 0.3), (4, 1, None), (6, 2, 0.2))  # step, epoch, AP


def write_run(folder, parts=None, evaluations=EVALUATIONS, **settings):
    """A run of three epochs of two steps; each step takes 5 s."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(asdict(TrainConfig(out=str(folder), **settings))))
    lines = [
        {"step": 2 * e + i + 1, "epoch": e, "loss": 1.0, "seconds": 5.0 * (i + 1)} | (parts or {})
        for e in range(3)
        for i in range(2)
    ]
    lines += [{"step": step, "epoch": epoch, "metrics": {"AP": ap, "AP50": ap}} for step, epoch, ap in evaluations]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_last_and_the_best_evaluation_are_told_apart(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    assert run.metrics["AP"] == 0.2 and run.best == (0.3, 2) and len(run.steps) == 6
    assert math.isnan(run.evaluations[1]["metrics"]["AP"])  # null in the file


def test_a_run_that_was_not_evaluated_has_no_best(tmp_path):
    run = read_run(write_run(tmp_path / "run", evaluations=()))
    assert run.metrics == {} and run.best[1] is None and math.isnan(run.best[0])
    assert math.isnan(side_by_side([run])[0]["AP"])


def test_time_is_that_of_the_parts_or_of_the_epochs_where_there_are_none(tmp_path):
    assert read_run(write_run(tmp_path / "old")).seconds == 3 * 10
    assert read_run(write_run(tmp_path / "new", PARTS)).seconds == 6 * 6.5


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (math.nan, "–")]
)
def test_durations_are_said_in_the_unit_of_their_size(seconds, text):
    assert duration(seconds) == text


def test_settings_are_shown_where_runs_differ(tmp_path):
    runs = [read_run(write_run(tmp_path / name, lr=lr)) for name, lr in (("a", 1e-3), ("b", 1e-4))]
    first, second = side_by_side(runs)
    assert (first["lr"], second["lr"]) == ("0.001", "0.0001")
    assert {"epochs", "out", "assigner"} & first.keys() == set()
    assert (first["run"], first["AP"], first["best AP"], first["at step"], first["time"]) == ("a", 0.2, 0.3, 2, "30 s")


def test_a_setting_that_an_old_run_lacks_has_its_default(tmp_path):
    old, new = (write_run(tmp_path / name) for name in ("old", "new"))
    content = json.loads((old / "config.json").read_text())
    del content["ema"]
    (old / "config.json").write_text(json.dumps(content))
    assert "ema" not in side_by_side([read_run(old), read_run(new)])[0]


def test_folders_of_one_name_are_told_by_their_paths(tmp_path):
    runs = [read_run(write_run(tmp_path / name / "run")) for name in ("a", "b")]
    assert run_names(runs) == [str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")]
    assert run_names(runs[:1]) == ["run"]


def test_a_folder_that_is_no_runs_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} is no folder of a run"):
        read_run(tmp_path)
