"""Recipes are settings that a run can have, and the paper's are the paper's."""

import pytest

from otalab.cli.main import main
from otalab.detect import build_detector
from otalab.detect.config import TrainConfig
from otalab.detect.optim import build_optimizer, lr_factor
from otalab.detect.recipes import RECIPES
from otalab.errors import InputError


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_keeps_its_name_and_is_printed(name, capsys):
    config = TrainConfig.from_recipe(name)
    assert config.recipe == name and all(getattr(config, key) == value for key, value in RECIPES[name][1].items())
    assert main(["recipes"]) == 0
    assert f"{name}: {RECIPES[name][0]}" in capsys.readouterr().out


def test_the_papers_recipe_is_to_the_letter():
    config = TrainConfig.from_recipe("paper-r50-1x")
    total = config.steps
    rates = {step: config.peak_lr * lr_factor(step, total, config) for step in (0, 1000, 59_999, 60_000, 80_000)}
    assert rates == pytest.approx({0: 1e-5, 1000: 0.01, 59_999: 0.01, 60_000: 0.001, 80_000: 0.0001})
    assert (total, config.batch_size, config.image_size, config.background) == (90_000, 16, (800, 1333), 0)
    model = build_detector("resnet18", weights_backbone=config.weights_backbone, load_weights=False)
    optimizer = build_optimizer(model, config)
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {1e-4, 0.0} and {group["momentum"] for group in optimizer.param_groups} == {0.9}
    learns = {name.split(".")[2] for name, p in model.named_parameters() if "body" in name and p.requires_grad}
    assert learns == {"layer2", "layer3", "layer4"}  # the first two stages and all norms are frozen


def test_the_rate_goes_by_the_batch():
    assert TrainConfig.from_recipe("paper-r50-1x", batch_size=8).peak_lr == pytest.approx(0.005)
    assert TrainConfig(lr=0.01, batch_size=8).peak_lr == 0.01


def test_epochs_in_place_of_a_recipes_steps():
    config = TrainConfig.from_recipe("paper-r50-1x", epochs=3)
    assert config.steps is None and config.epochs == 3


def test_warm_up_is_at_most_the_run():
    config = TrainConfig(warmup=1000)
    assert lr_factor(5, 10, config) == pytest.approx(0.5005)


def test_an_unknown_recipe_is_told():
    with pytest.raises(InputError, match="recipe 'paper' is none of paper-r50-1x"):
        TrainConfig.from_recipe("paper")


def test_flags_override_a_recipe_and_the_run_remembers_it(shapes, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("otalab.detect.train.train", lambda config, resume: seen.append(config) or {})
    assert main(["train", "--recipe", "cells", "--data", str(shapes), "--epochs", "2", "--no-group"]) == 0
    (config,) = seen
    assert (config.recipe, config.backbone, config.data) == ("cells", "mobilenet_v2", str(shapes))
    assert (config.epochs, config.group) == (2, False)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TrainConfig.from_recipe("paper-r50-1x"), ("ota", 0)),
        (TrainConfig.from_recipe("subset-r50"), ("ota:k=5", 1)),
        (TrainConfig(), ("ota:k=5", 1)),
    ],
)
def test_the_papers_recipe_alone_has_the_papers_labels_and_losses_unasked(config, expected):
    assert (config.assigner, config.balance) == expected
