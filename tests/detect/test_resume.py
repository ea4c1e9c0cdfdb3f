import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from processes import PROCESSES, in_one_thread, in_processes

from otalab.detect import train as train_module
from otalab.detect.checkpoint import load_state
from otalab.detect.config import TrainConfig
from otalab.detect.train import train
from otalab.errors import InputError

from .runs import EPOCHS, STEPS, log_of, metrics_of, same_weights, steps_of


def interrupt_at(step: int, monkeypatch) -> None:
    """Let the run be stopped in the middle of a step, before its weights are averaged."""
    update = train_module.update_ema

    def stop(average, model, decay, at):
        if at == step:
            raise KeyboardInterrupt
        update(average, model, decay, at)

    monkeypatch.setattr(train_module, "update_ema", stop)


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
    metrics = train(setup(), resume=True, progress=False)
    assert all(isinstance(value, float) for value in metrics.values())  # what was not measured is NaN, as at first
    assert same_weights(tmp_path / "run", finished)
    assert metrics_of(tmp_path / "run") == metrics_of(finished)
    assert log_of(tmp_path / "run") == log_of(finished)


def test_what_is_drawn_in_a_step_depends_on_the_step_alone(setup, tmp_path, monkeypatch):
    """No assigner of ours draws; another may."""
    update, drawn = train_module.update_ema, []

    def draw(average, model, decay, at):
        update(average, model, decay, at)
        drawn.append(torch.rand(()).item())

    monkeypatch.setattr(train_module, "update_ema", draw)
    train(setup(steps=6), progress=False)
    whole, drawn[:] = list(drawn), []
    config = setup(steps=6, checkpoint_every=3, out=str(tmp_path / "other"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(4, patch)
        train(config, progress=False)
    drawn.clear()
    train(config, resume=True, progress=False)
    assert drawn == whole[3:] and len(set(whole)) == 6


def test_a_state_of_an_earlier_otalab_is_told_from_a_damaged_one(setup, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    state = load_state(tmp_path / "run" / "checkpoint.pt")
    state["epoch"] = state.pop("steps_done") // STEPS
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(InputError, match="of an earlier otalab, whose runs cannot be resumed"):
        train(setup(), resume=True, progress=False)


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


def train_quietly(rank: int, config: TrainConfig, resume: bool) -> None:
    train(config, resume, progress=False)


def test_a_killed_process_is_resumed_by_another_to_the_same_bits(setup, finished, tmp_path):
    config, out = setup(), tmp_path / "run"
    process = PROCESSES.Process(target=in_one_thread, args=(0, train_quietly, config, False))
    process.start()
    log = out / "log.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not log.exists() or log.read_text().count("\n") < STEPS + 2:  # in the middle of the second epoch
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.join()
    done = load_state(out / "checkpoint.pt")["steps_done"]
    assert STEPS <= done < EPOCHS * STEPS and len(log_of(out)) > done
    assert not (out / "model.safetensors").exists()

    in_processes(1, train_quietly, config, True)
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


def test_every_setting_that_differs_is_named_at_once(setup, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(
        InputError, match=r"was started with .*augment=\S+ not none, .*lr=\S+ not 0.002; .* give them again"
    ):
        train(setup(lr=2e-3, augment="none"), resume=True, progress=False)


def test_a_resumed_run_may_load_its_images_otherwise(finished, setup, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    train(setup(workers=1), resume=True, progress=False)
    assert same_weights(tmp_path / "run", finished)


def test_a_run_from_before_a_setting_existed_had_its_default(finished, setup, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    state = load_state(path)
    del state["config"]["background"]
    state["config"]["workers"] = 2  # was among the settings to keep
    torch.save(state, path)
    train(setup(), resume=True, progress=False)
    with pytest.raises(InputError, match="was started with background=0, not 5"):
        train(setup(background=5), resume=True, progress=False)


@pytest.mark.parametrize("name", ["config.json", "log.jsonl", "data.txt", "metrics.json"])
def test_files_that_are_no_runs_are_left_alone(name, setup, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text('{"mine": 1}')
    for resume in (False, True):
        with pytest.raises(InputError, match=f"run holds a {name} that is no run's; choose another folder"):
            train(setup(), resume=resume, progress=False)
    assert os.listdir(tmp_path / "run") == [name] and (tmp_path / "run" / name).read_text() == '{"mine": 1}'


def test_a_run_that_ended_before_its_first_checkpoint_is_begun_again(setup, finished, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("config.json", "log.jsonl", "data.txt"):
        shutil.copy(finished / name, tmp_path / "run")
    train(setup(), progress=False)
    assert same_weights(tmp_path / "run", finished) and steps_of(tmp_path / "run") == steps_of(finished)


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


def first_moment(state: dict) -> dict:
    """What the optimizer keeps for the first of its parameters that learns."""
    return next(iter(state["optimizer"]["state"].values()))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.update(steps_done=99), f"is of step 99, but the run has {EPOCHS * STEPS}"),
        (lambda s: s.update(model=[1, 2]), "does not fit the detector"),
        (lambda s: s["model"].update(new=torch.zeros(1)), "unknown tensor new"),
        (lambda s: s["average"].update({"head.logits.bias": None}), "head.logits.bias is no tensor"),
        (lambda s: s["average"]["head.logits.bias"].fill_(torch.nan), "head.logits.bias holds numbers that are not"),
        (lambda s: s["model"].update({"head.logits.bias": torch.zeros(6).half()}), "head.logits.bias is torch.float16"),
        (
            lambda s: s["model"].update({"head.logits.bias": torch.zeros(1).expand(2**40)}),
            r"head.logits.bias is .*\(10995",
        ),
        (lambda s: s["optimizer"].update(state=None), "does not fit the detector"),
        (lambda s: s["optimizer"]["state"].popitem(), r"the optimizer has the state of \d+ parameters, not of"),
        (lambda s: first_moment(s).pop("exp_avg"), "no tensor exp_avg"),
        (lambda s: first_moment(s).update(exp_avg=torch.zeros(3)), r"exp_avg is torch.float32 \(3,\), not"),
        (lambda s: first_moment(s)["exp_avg"].fill_(torch.inf), "exp_avg holds numbers that are not"),
    ],
)
def test_a_state_with_a_part_that_is_wrong_is_told_before_the_run_goes_on(spoil, says, setup, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    state = load_state(tmp_path / "run" / "checkpoint.pt")
    spoil(state)
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(InputError, match=says) as caught:
        train(setup(), resume=True, progress=False)
    assert "\n" not in str(caught.value)
    assert log_of(tmp_path / "run") == log_of(finished)
