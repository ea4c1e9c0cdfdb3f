import multiprocessing
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from otalab.detect import batches as batches_module
from otalab.detect import detector as detector_module
from otalab.detect import train as train_module
from otalab.detect.batches import load_batches
from otalab.detect.checkpoint import load_state
from otalab.detect.device import pick_device
from otalab.detect.train import open_data, train
from otalab.errors import InputError

from .runs import STEPS, steps_of


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
    ("clip", "spoil", "says"),
    [
        (10.0, lambda loss: loss * float("nan"), r"the loss is not finite \(classification [\d.]+, box nan, quality"),
        (0.0, lambda loss: loss + float("inf"), r"the loss is not finite \(classification [\d.]+, box inf, quality"),
        (0.0, steep, r"the gradient is not finite \(norm (inf|nan)\)"),
        (10.0, steep, r"the gradient is not finite \(norm (inf|nan)\)"),
    ],
)
def test_a_step_that_is_not_finite_stops_the_run_and_names_itself(clip, spoil, says, setup, monkeypatch):
    config = setup(clip=clip, epochs=2)
    with monkeypatch.context() as patch, pytest.raises(InputError, match=says) as caught:
        spoil_losses(STEPS + 2, spoil, patch)
        train(config, progress=False)
    trainset, _ = open_data(config, torch.device("cpu"))
    _, targets = list(load_batches(trainset, config, 0, 2 * STEPS))[STEPS + 1]
    ids = [int(target["image_id"]) for target in targets]
    assert str(caught.value).startswith(f"step {STEPS + 2}, image ids {ids}: ") and "\n" not in str(caught.value)
    state = load_state(Path(config.out) / "checkpoint.pt")
    assert state["steps_done"] == STEPS and all(value.isfinite().all() for value in state["model"].values())
    assert steps_of(config.out) == list(range(1, STEPS + 2))  # no line of the broken step


def test_in_float16_a_step_whose_gradient_overflows_is_skipped_at_half_the_scale(setup, monkeypatch):
    config = setup(precision="float16", epochs=1)
    spoil_losses(2, steep, monkeypatch)
    train(config, progress=False)
    assert steps_of(config.out) == list(range(1, STEPS + 1))
    state = load_state(Path(config.out) / "checkpoint.pt")
    assert state["scaler"]["scale"] == 2**15 and all(value.isfinite().all() for value in state["model"].values())


def test_a_run_that_diverges_by_itself_says_so(setup):
    config = setup(optimizer="sgd", lr=1e12, clip=0.0, warmup=0)
    with pytest.raises(InputError, match=r"^step \d+, image ids \[[\d, ]+\]: .*(finite)"):
        train(config, progress=False)
    assert not (Path(config.out) / "model.safetensors").exists()


def test_a_fault_in_a_loader_process_is_told_in_one_line(setup, own_shapes):
    config = setup(data=str(own_shapes), workers=1, epochs=1)
    image = own_shapes / "train" / "images" / "000003.png"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(InputError, match=rf"^cannot read image {re.escape(str(image))}: [^\n]+$"):
        train(config, progress=False)


@pytest.mark.parametrize(
    "died",
    [
        RuntimeError("DataLoader worker (pid(s) 70) exited unexpectedly"),
        RuntimeError("DataLoader worker (pid 70) is killed by signal: Killed. "),
        RuntimeError(
            "DataLoader worker (pid 70) is killed by signal: Bus error. It is possible that\nshared memory ..."
        ),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_loader_processes_that_die_are_told_with_what_to_do(died, setup, monkeypatch):
    config = setup(workers=1, epochs=1)

    def loader(*args, **options):
        yield next(iter(DataLoader(*args, **options | {"num_workers": 0})))
        raise died

    monkeypatch.setattr(batches_module, "DataLoader", loader)
    with pytest.raises(
        InputError, match=r"^one of 1 loader processes failed .*--resume\) with fewer --workers, 0 for none$"
    ):
        train(config, progress=False)


def test_a_loader_process_that_is_killed_is_told(setup, monkeypatch):
    config = setup(workers=1, epochs=2)

    def kill(*args):
        (child,) = multiprocessing.active_children()
        child.kill()
        child.join()

    monkeypatch.setattr(train_module, "update_ema", kill)
    with pytest.raises(InputError, match=r"one of 1 loader processes failed \(DataLoader worker .*\); memory may have"):
        train(config, progress=False)


def test_another_fault_of_torch_is_not_taken_for_a_killed_loader(setup, monkeypatch):
    monkeypatch.setattr(train_module, "update_ema", lambda *args: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        train(setup(epochs=1), progress=False)


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


def test_a_reader_of_the_output_that_goes_away_is_no_loader_that_failed():
    with pytest.raises(BrokenPipeError), train_module.loader_faults_told(workers=1):
        raise BrokenPipeError(32, "Broken pipe")
