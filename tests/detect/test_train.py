import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from otalab.data import ShapesConfig, make_shapes
from otalab.detect import run_evaluation
from otalab.detect.batches import load_batches
from otalab.detect.checkpoint import load_model, load_state
from otalab.detect.config import TrainConfig
from otalab.detect.optim import lr_factor
from otalab.detect.train import open_data, train

from .runs import EPOCHS, STEPS, log_of, metrics_of, same_weights, steps_of


def test_a_run_leaves_its_settings_log_weights_and_metrics(finished):
    assert sorted(os.listdir(finished)) == [
        "best.safetensors",
        "checkpoint.pt",
        "config.json",
        "data.txt",
        "detections.json",
        "log.jsonl",
        "metrics.json",
        "model.safetensors",
        "report.html",
    ]
    assert json.loads((finished / "config.json").read_text())["epochs"] == EPOCHS
    assert {"AP", "AP50", "AP/square"} <= metrics_of(finished).keys()
    assert log_of(finished)[-1]["metrics"] == metrics_of(finished)


def test_the_log_has_a_line_for_each_step(finished):
    lines = [line for line in log_of(finished) if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, EPOCHS * STEPS + 1))
    assert [line["epoch"] for line in lines] == [epoch for epoch in range(EPOCHS) for _ in range(STEPS)]
    for line in lines:
        assert line["loss"] == pytest.approx(line["classification"] + line["box"] + line["quality"], rel=1e-5)


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_gives_others(setup, finished, tmp_path):
    train(setup(), progress=False)
    assert same_weights(tmp_path / "run", finished)
    train(setup(seed=1, out=str(tmp_path / "other"), epochs=1), progress=False)
    assert not same_weights(tmp_path / "other", finished)


def test_a_run_without_progress_is_silent(setup, capfd):
    train(setup(epochs=1), progress=False)
    assert capfd.readouterr() == ("", "")


def test_an_incomplete_last_batch_is_left_out(setup, tmp_path):
    train(setup(batch_size=5, epochs=2), progress=False)
    assert steps_of(tmp_path / "run") == [1, 2, 3, 4, 5, 6]  # 16 images: three batches of five


def test_a_batch_larger_than_the_set_takes_it_whole(setup):
    config = setup(batch_size=100, epochs=1, max_images=3)
    (only,) = load_batches(open_data(config, torch.device("cpu"))[0], config, 0, 1)
    assert len(only[0]) == 3
    train(config, progress=False)
    assert steps_of(config.out) == [1]


def test_sgd_with_the_step_schedule_runs_with_the_rates_it_should(setup):
    config = setup(optimizer="sgd", schedule="step", lr=0.01, weight_decay=1e-4)
    train(config, progress=False)
    rates = [line["lr"] for line in log_of(config.out) if "loss" in line]
    assert rates == [0.01 * lr_factor(step, EPOCHS * STEPS, config) for step in range(EPOCHS * STEPS)]
    assert rates[-1] == pytest.approx(1e-4) and max(rates) == 0.01


def test_without_an_average_the_last_weights_are_saved(setup):
    config = setup(ema=0.0, epochs=1)
    train(config, progress=False)
    saved = load_file(Path(config.out) / "model.safetensors")
    last = load_state(Path(config.out) / "checkpoint.pt")["model"]
    assert all(torch.equal(saved[name], last[name]) for name in saved)


def test_with_an_average_the_average_is_saved(finished):
    saved, state = load_file(finished / "model.safetensors"), load_state(finished / "checkpoint.pt")
    assert all(torch.equal(saved[name], state["average"][name]) for name in saved)
    assert any(not torch.equal(saved[name], state["model"][name]) for name in saved)


def test_evaluation_on_the_way_is_logged_and_changes_no_weight(setup, finished):
    config = setup(eval_every=1)
    train(config, progress=False)
    assert [line["step"] for line in log_of(config.out) if "metrics" in line] == [4, 8, 12]
    assert same_weights(config.out, finished)


def test_chosen_categories_are_the_detectors(setup):
    config = setup(categories=("square", "ring"), epochs=1)
    metrics = train(config, progress=False)
    assert {name for name in metrics if name.startswith("AP/")} <= {"AP/square", "AP/ring"}
    assert load_file(Path(config.out) / "model.safetensors")["head.logits.bias"].shape == (2,)


def test_a_run_of_steps_ends_within_an_epoch(setup, tmp_path):
    config = setup(steps=6, checkpoint_every=5)
    train(config, progress=False)
    assert steps_of(config.out) == [1, 2, 3, 4, 5, 6] and log_of(config.out)[-1]["step"] == 6


def test_the_log_counts_gts_positives_and_seconds(finished):
    for line in (line for line in log_of(finished) if "loss" in line):
        assert 0 <= line["empty_gts"] <= line["gts"] <= line["positives"]
        seconds = [line[f"{phase}_seconds"] for phase in ("data", "forward", "assign", "backward")]
        assert all(0 < value < 60 for value in seconds)


def test_the_best_weights_are_kept_though_later_ones_are_worse(setup, monkeypatch):
    values = iter([0.1, 0.3, 0.2])
    kept = []
    monkeypatch.setattr(run_evaluation, "coco_metrics", lambda *_: {"AP": next(values), "AP50": 0.0})
    save = run_evaluation.RunEvaluator.save

    def noted(evaluator, name):
        kept.append((name, evaluator.run.step))
        return save(evaluator, name)

    monkeypatch.setattr(run_evaluation.RunEvaluator, "save", noted)
    config = setup(eval_every=1)
    train(config, progress=False)
    assert kept == [("best.safetensors", 4), ("best.safetensors", 8), ("model.safetensors", 12)]
    assert load_model(Path(config.out) / "best.safetensors")[1]["class_names"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_what_full_precision_learns(precision, setup, finished):
    config = setup(precision=precision)
    train(config, progress=False)
    ours, theirs = ([line["loss"] for line in log_of(out) if "loss" in line] for out in (config.out, finished))
    assert ours == pytest.approx(theirs, rel=0.1) and ours != theirs
    saved = load_file(Path(config.out) / "model.safetensors")
    assert all(value.dtype != torch.bfloat16 and value.dtype != torch.float16 for value in saved.values())


def test_a_float16_run_goes_on_with_its_scale(setup):
    config = setup(precision="float16", epochs=1, checkpoint_every=2)
    train(config, progress=False)
    state = load_state(Path(config.out) / "checkpoint.pt")
    assert state["scaler"]["scale"] > 1 and state["steps_done"] == STEPS


def test_backbone_and_head_are_compiled_where_asked_for(setup, monkeypatch):
    """What the compiler makes of them takes a minute, and is PyTorch's own to test."""
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    train(setup(compile=True, steps=1), progress=False)
    assert compiled == ["PyramidBackbone", "Head"]


def test_tensorboard_gets_what_the_log_gets(setup):
    config = setup(tensorboard=True, epochs=1)
    train(config, progress=False)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(Path(config.out) / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in seen.Scalars("train/loss")]
    logged = [(line["step"], line["loss"]) for line in log_of(config.out) if "loss" in line]
    assert losses == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in logged]
    assert len(seen.Scalars("eval/AP")) == 1


@pytest.mark.slow
def test_four_images_can_be_learnt_by_heart(tmp_path):
    easy = ShapesConfig(image_size=64, min_size=14.0, max_size=40.0, max_objects=4)
    data = make_shapes(tmp_path / "data", 4, 1, easy, progress=False)
    shutil.rmtree(data / "val")
    shutil.copytree(data / "train", data / "val")
    config = TrainConfig(str(data), str(tmp_path / "run"), batch_size=4, epochs=50, warmup=5, lr=2e-3, ema=0.9)
    metrics = train(replace(config, augment="none", device="cpu"), progress=False)
    assert metrics["AP50"] > 0.9
