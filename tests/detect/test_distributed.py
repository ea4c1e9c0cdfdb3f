"""Several processes, or a step taken in parts: the run of one process and whole steps, to rounding."""

import os
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import in_processes
from safetensors.torch import load_file

from otalab.detect import step as step_module
from otalab.detect import train as train_module
from otalab.detect.config import TrainConfig
from otalab.errors import InputError

from .runs import log_of, metrics_of

STEPS = 20  # warm-up, the highest rate and the decay
PRECISE = 1e-9  # of float64, relative; float32 gives 1e-8 after five steps, and then tells rounding apart


def train_precisely(config: TrainConfig) -> None:
    """A run in float64, in which a difference is none of rounding, with frozen norms and nothing to fetch."""
    build, load = train_module.build_detector, step_module.to_device

    def in_float64(images, targets, device):
        images, targets = load(images, targets, device)
        return [image.double() for image in images], targets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "build_detector", lambda **s: build(**s, load_weights=False).double())
        patch.setattr(step_module, "to_device", in_float64)
        patch.setattr("otalab.detect.run_evaluation.detect", lambda *_, **__: [])
        train_module.train(config, progress=False)


def take_part(rank: int, port: int, run, config: TrainConfig) -> None:
    """One process of two, as `torchrun` starts them."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    run(config)


def in_two_processes(run, config: TrainConfig) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    in_processes(2, take_part, port, run, config)


@pytest.fixture(scope="module")
def precise(shapes, tmp_path_factory):
    """Settings of twenty steps of four images, and the folder of the run that one process made of them."""
    config = TrainConfig(
        data=str(shapes), out=str(tmp_path_factory.mktemp("precise") / "run"), device="cpu", size=40, steps=STEPS,
        batch_size=4, backbone="mobilenet_v2", weights_backbone="IMAGENET1K_V1", optimizer="sgd", lr=1e-3, warmup=5,
        augment="light", clip=1.0,
    )  # fmt: skip
    train_precisely(config)
    return config


def assert_same_run(config: TrainConfig, other: TrainConfig) -> None:
    """Losses of every step, what was counted, and the weights at the end."""
    ours, theirs = ([line for line in log_of(c.out) if "loss" in line] for c in (config, other))
    assert len(ours) == len(theirs) == config.steps
    for a, b in zip(ours, theirs, strict=True):
        assert [a[name] for name in ("step", "lr", "gts", "positives", "empty_gts")] == [
            b[name] for name in ("step", "lr", "gts", "positives", "empty_gts")
        ]
        for name in ("loss", "classification", "box", "quality"):
            assert a[name] == pytest.approx(b[name], rel=PRECISE), (a["step"], name)
    weights, others = (load_file(Path(c.out) / "model.safetensors") for c in (config, other))
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=PRECISE, atol=PRECISE, msg=name)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(precise, tmp_path):
    shared = replace(precise, out=str(tmp_path / "run"))
    in_two_processes(train_precisely, shared)
    assert_same_run(precise, shared)


@pytest.mark.slow
def test_a_step_in_parts_of_one_image_is_the_whole_step(precise, tmp_path):
    whole = replace(precise, steps=6, warmup=2, out=str(tmp_path / "whole"))
    parts = replace(whole, accumulate=4, out=str(tmp_path / "parts"))
    for config in (whole, parts):
        train_precisely(config)
    assert_same_run(whole, parts)


@pytest.mark.slow
def test_parts_of_soft_labels_add_up_to_the_whole_step(precise, tmp_path):
    """Their weights, which balance changes, are what a part's loss was divided by."""
    whole = replace(precise, assigner="tal", steps=3, warmup=1, out=str(tmp_path / "whole"))
    parts = replace(whole, accumulate=4, out=str(tmp_path / "parts"))
    for config in (whole, parts):
        train_precisely(config)
    one, several = ([line["loss"] for line in log_of(config.out) if "loss" in line] for config in (whole, parts))
    assert len(one) == 3 and several == pytest.approx(one, rel=PRECISE)


def train_quietly(config: TrainConfig) -> None:
    train_module.train(config, progress=False)


@pytest.mark.slow
def test_two_processes_share_the_evaluation_and_the_first_writes(setup, tmp_path):
    config = setup(epochs=1, eval_every=1)
    in_two_processes(train_quietly, config)
    before = metrics_of(config.out)
    state = sorted(os.listdir(config.out))
    assert {"best.safetensors", "checkpoint.pt", "detections.json", "model.safetensors", "report.html"} <= set(state)
    (Path(config.out) / "metrics.json").unlink()
    in_two_processes(partial(train_module.train, resume=True, progress=False), config)  # it has come to its end already
    assert metrics_of(config.out) == before and [line["step"] for line in log_of(config.out)] == [1, 2, 3, 4, 4]


def test_a_batch_that_the_processes_cannot_share_is_told(setup, monkeypatch):
    monkeypatch.setattr(train_module, "num_processes", lambda: 3)
    with pytest.raises(
        InputError, match="a batch of 4 images cannot be shared equally by 3 processes that take theirs in"
    ):
        train_module.train(setup(), progress=False)


@pytest.mark.parametrize(("batch", "images"), [(4, 4), (8, 5)])
def test_a_batch_of_no_equal_parts_is_told_also_where_the_set_is_smaller(batch, images, setup):
    says = f"a batch of {images} images cannot be shared equally by 1 processes that take theirs in 3 parts"
    with pytest.raises(InputError, match=says):
        train_module.train(setup(batch_size=batch, max_images=images, accumulate=3), progress=False)


@pytest.mark.parametrize("assigner", ["freeanchor", "autoassign"])
def test_parts_of_a_batch_need_the_losses_of_the_detector(assigner, setup):
    config = setup(assigner=assigner, accumulate=2, epochs=1)
    with pytest.raises(InputError, match=f"accumulate is 2, but {assigner} brings losses of its own"):
        train_module.train(config, progress=False)
    assert not Path(config.out).exists()
