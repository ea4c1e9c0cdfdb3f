import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from otalab.data import ShapesConfig, make_shapes
from otalab.detect import detector as detector_module
from otalab.detect import train as train_module
from otalab.detect.checkpoint import load_state
from otalab.detect.config import TrainConfig
from otalab.detect.optim import lr_factor
from otalab.detect.train import batches, open_data, pick_device, train
from otalab.errors import InputError

EPOCHS, STEPS = 3, 4  # epochs, and steps an epoch, of `setup`


@pytest.fixture
def setup(shapes, tmp_path):
    """The settings of a run of seconds, with changes."""
    base = TrainConfig(str(shapes), str(tmp_path / "run"), epochs=EPOCHS, batch_size=4, warmup=2, device="cpu")
    return lambda **changes: replace(base, **changes)


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    """The folder of a run of `setup` that was never stopped."""
    out = tmp_path_factory.mktemp("finished") / "run"
    config = TrainConfig(str(shapes), str(out), epochs=EPOCHS, batch_size=4, warmup=2, device="cpu")
    train(config, progress=False)
    return out


def log_of(folder) -> list[dict]:
    """The run's log; every line must be JSON, without literals that JSON does not know."""
    lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} in the log")) for line in lines]


def steps_of(folder) -> list[int]:
    return [line["step"] for line in log_of(folder) if "loss" in line]


def metrics_of(folder) -> dict:
    return json.loads((Path(folder) / "metrics.json").read_text(), parse_constant=pytest.fail)


def same_weights(a, b) -> bool:
    ours, theirs = (load_file(Path(folder) / "model.safetensors") for folder in (a, b))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def interrupt_at(step: int, monkeypatch) -> None:
    """Let the run be stopped in the middle of a step, before its weights are averaged."""
    update = train_module.update_ema

    def stop(average, model, decay, at):
        if at == step:
            raise KeyboardInterrupt
        update(average, model, decay, at)

    monkeypatch.setattr(train_module, "update_ema", stop)


def test_a_run_leaves_its_settings_log_weights_and_metrics(finished):
    assert sorted(os.listdir(finished)) == [
        "checkpoint.pt",
        "config.json",
        "log.jsonl",
        "metrics.json",
        "model.safetensors",
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


@pytest.mark.parametrize("step", [1, 6, 11])
def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(step, setup, finished, monkeypatch):
    config = setup()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(step, patch)
        train(config, progress=False)
    assert not (Path(config.out) / "model.safetensors").exists()
    train(config, resume=True, progress=False)
    assert same_weights(config.out, finished)
    assert steps_of(config.out) == steps_of(finished)
    assert metrics_of(config.out) == metrics_of(finished)


def test_resuming_a_finished_run_changes_nothing(finished, setup, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    train(setup(), resume=True, progress=False)
    assert same_weights(tmp_path / "run", finished)
    assert metrics_of(tmp_path / "run") == metrics_of(finished)
    assert log_of(tmp_path / "run") == log_of(finished)


def test_resuming_what_never_began_begins(setup, tmp_path):
    train(setup(epochs=1), resume=True, progress=False)
    assert steps_of(tmp_path / "run") == [1, 2, 3, 4]


def test_a_log_that_was_cut_short_is_mended(setup, finished, tmp_path, monkeypatch):
    config = setup()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(6, patch)
        train(config, progress=False)
    with open(tmp_path / "run" / "log.jsonl", "a") as log:
        log.write('{"step": 7, "epoch": 1, "metrics": {"AP": 0.5}')
    train(config, resume=True, progress=False)
    assert steps_of(tmp_path / "run") == steps_of(finished)


@pytest.mark.slow
def test_a_killed_process_is_resumed_by_another_to_the_same_bits(shapes, finished, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "otalab", "train", "--data", shapes, "--out", out, "--epochs", str(EPOCHS)]
    command += ["--batch-size", "4", "--warmup", "2", "--device", "cpu"]
    quiet = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    process = subprocess.Popen(command, **quiet)
    log = out / "log.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not log.exists() or log.read_text().count("\n") < STEPS + 2:  # in the middle of the second epoch
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    done = load_state(out / "checkpoint.pt")["epoch"]
    assert 1 <= done < EPOCHS and len(log_of(out)) > done * STEPS
    assert not (out / "model.safetensors").exists()

    subprocess.run([*command, "--resume"], check=True, **quiet)
    assert same_weights(out, finished)
    assert steps_of(out) == steps_of(finished)
    assert not [name for name in os.listdir(out) if name.startswith(".")]


@pytest.mark.parametrize("kept", ["checkpoint.pt", "model.safetensors"])
def test_a_folder_that_holds_a_run_is_left_alone(kept, setup, finished, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(finished / kept, tmp_path / "run")
    before = (tmp_path / "run" / kept).read_bytes()
    with pytest.raises(InputError, match=r"run holds a run already; resume it \(--resume\) or"):
        train(setup(), progress=False)
    assert os.listdir(tmp_path / "run") == [kept] and (tmp_path / "run" / kept).read_bytes() == before


@pytest.mark.parametrize("change", [{"lr": 2e-3}, {"augment": "none"}, {"categories": ("square",)}, {"epochs": 4}])
def test_a_resumed_run_keeps_its_settings(change, setup, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=f"was started with {name}=") as caught:
        train(setup(**change), resume=True, progress=False)
    assert str(list(value) if isinstance(value, tuple) else value) in str(caught.value)
    assert log_of(tmp_path / "run") == log_of(finished)


def test_a_run_whose_folder_was_moved_is_resumed(finished, setup, tmp_path):
    shutil.copytree(finished, tmp_path / "moved")
    train(setup(out=str(tmp_path / "moved")), resume=True, progress=False)
    assert same_weights(tmp_path / "moved", finished)


def test_a_damaged_checkpoint_is_named_and_the_run_left_as_it_is(setup, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(InputError, match=r"run/checkpoint.pt is not a whole checkpoint"):
        train(setup(), resume=True, progress=False)
    assert log_of(tmp_path / "run") == log_of(finished)


def test_a_checkpoint_of_another_model_is_named(setup, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    state = load_state(path)
    state["model"].popitem()
    torch.save(state, path)
    with pytest.raises(InputError, match="does not fit the detector") as caught:
        train(setup(), resume=True, progress=False)
    assert "\n" not in str(caught.value)


def spoil_losses(at: int, spoil, monkeypatch) -> None:
    """Change the losses of one step (from 1)."""
    calls, losses_of = [], detector_module.detection_losses

    def spoiled(*batch):
        calls.append(1)
        losses = losses_of(*batch)
        return {**losses, "box": spoil(losses["box"])} if len(calls) == at else losses

    monkeypatch.setattr(detector_module, "detection_losses", spoiled)


def steep(loss: torch.Tensor) -> torch.Tensor:
    """The same loss, whose gradient is infinite."""
    loss = loss * 1
    loss.register_hook(lambda gradient: gradient * float("inf"))
    return loss


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda loss: loss * float("nan"), r"the loss is not finite \(classification [\d.]+, box nan, quality"),
        (lambda loss: loss + float("inf"), r"the loss is not finite \(classification [\d.]+, box inf, quality"),
        (steep, r"the gradient is not finite \(norm (inf|nan)\)"),
    ],
)
@pytest.mark.parametrize("clip", [0.0, 10.0])
def test_a_step_that_is_not_finite_stops_the_run_and_names_itself(spoil, says, clip, setup, monkeypatch):
    config = setup(clip=clip, epochs=2)
    with monkeypatch.context() as patch, pytest.raises(InputError, match=says) as caught:
        spoil_losses(STEPS + 2, spoil, patch)
        train(config, progress=False)
    trainset, _ = open_data(config)
    second = list(batches(trainset, config, 1, STEPS))[1][1]
    ids = [int(target["image_id"]) for target in second]
    assert str(caught.value).startswith(f"step {STEPS + 2}, image ids {ids}: ") and "\n" not in str(caught.value)
    state = load_state(Path(config.out) / "checkpoint.pt")
    assert state["epoch"] == 1 and all(value.isfinite().all() for value in state["model"].values())
    assert steps_of(config.out) == list(range(1, STEPS + 2))  # no line of the broken step


def test_a_run_that_diverges_by_itself_says_so(setup):
    config = setup(optimizer="sgd", lr=1e12, clip=0.0, warmup=0)
    with pytest.raises(InputError, match=r"^step \d+, image ids \[[\d, ]+\]: .*(finite)"):
        train(config, progress=False)
    assert not (Path(config.out) / "model.safetensors").exists()


def test_an_incomplete_last_batch_is_left_out(setup, tmp_path):
    train(setup(batch_size=5, epochs=2), progress=False)
    assert steps_of(tmp_path / "run") == [1, 2, 3, 4, 5, 6]  # 16 images: three batches of five


def test_a_batch_larger_than_the_set_takes_it_whole(setup):
    config = setup(batch_size=100, epochs=1, max_images=3)
    (only,) = batches(open_data(config)[0], config, 0, 1)
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


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone(setup):
    config = setup()
    trainset, _ = open_data(config)

    def ids(epoch: int, **changes) -> list[int]:
        torch.manual_seed(epoch + 99)  # whatever was drawn before
        changed = replace(config, **changes)
        return [int(t["image_id"]) for _, targets in batches(trainset, changed, epoch, STEPS) for t in targets]

    assert ids(0) == ids(0) and ids(0) != ids(1) and ids(0) != ids(0, seed=1)
    assert sorted(ids(0)) == trainset.image_ids


@pytest.mark.slow
def test_loader_processes_give_the_same_weights_where_nothing_is_drawn(setup, tmp_path):
    train(setup(augment="none", epochs=1), progress=False)
    train(setup(augment="none", epochs=1, workers=1, out=str(tmp_path / "other")), progress=False)
    assert same_weights(tmp_path / "run", tmp_path / "other")


def test_a_fault_in_a_loader_process_is_told_in_one_line(setup, own_shapes):
    config = setup(data=str(own_shapes), workers=1, epochs=1)
    image = own_shapes / "train" / "images" / "000003.png"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(InputError, match=rf"^cannot read image {re.escape(str(image))}: [^\n]+$"):
        train(config, progress=False)


def test_splits_whose_categories_are_in_another_order_are_refused(setup, edit_annotations):
    def reverse(content):
        for row in content["categories"]:
            row["id"] = 7 - row["id"]
        for row in content["annotations"]:
            row["category_id"] = 7 - row["category_id"]

    folder = edit_annotations(reverse, "val")
    with pytest.raises(InputError, match="has 'cross' where the detector has 'circle'"):
        train(setup(data=str(folder)), progress=False)


def test_the_device_is_one_that_is_there():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for absent in ("gpu", "cuda:99", "meta", "mps", ""):
        with pytest.raises(InputError, match=f"device '{absent}' is not here; there is cpu"):
            pick_device(absent)


@pytest.mark.slow
def test_four_images_can_be_learnt_by_heart(tmp_path):
    easy = ShapesConfig(image_size=64, min_size=14.0, max_size=40.0, max_objects=4)
    data = make_shapes(tmp_path / "data", 4, 1, easy, progress=False)
    shutil.rmtree(data / "val")
    shutil.copytree(data / "train", data / "val")
    config = TrainConfig(str(data), str(tmp_path / "run"), batch_size=4, epochs=90, warmup=5, lr=2e-3, ema=0.9)
    metrics = train(replace(config, augment="none", device="cpu"), progress=False)
    assert metrics["AP50"] > 0.9
