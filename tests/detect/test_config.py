import argparse
import re
from dataclasses import fields

import pytest

from otalab.cli.flags import add_settings
from otalab.detect.config import TrainConfig, require_number
from otalab.errors import InputError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"workers": -1},
        {"warmup": -1},
        {"eval_every": -1},
        {"seed": -1},
        {"seed": 2**32},
        {"lr": 0.0},
        {"lr": -1e-3},
        {"lr": NAN},
        {"lr": INF},
        {"backbone_lr": -0.1},
        {"backbone_lr": NAN},
        {"weight_decay": -0.1},
        {"weight_decay": INF},
        {"clip": -1.0},
        {"clip": NAN},
        {"ema": 1.0},
        {"ema": -0.1},
        {"ema": NAN},
        {"max_images": 0},
        {"size": 0},
        {"max_size": 100},  # of no size
        {"size": 100, "max_size": 99},
        {"backbone": "resnet51"},
        {"augment": "much"},
        {"optimizer": "adam"},
        {"schedule": "linear"},
        {"steps": 0},
        {"sizes": (640, 0)},
        {"size": 600, "max_size": 700, "sizes": (640, 701)},
        {"recipe": "paper"},
        {"precision": "half"},
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(wrong):
    with pytest.raises(InputError) as caught:
        TrainConfig(**wrong)
    name, value = list(wrong.items())[-1]
    value = value[-1] if isinstance(value, tuple) else value
    assert name.rstrip("s") in str(caught.value) and str(value) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 2.5), ("batch_size", "4"), ("epochs", True), ("lr", "fast"), ("sizes", 640.5)]
)
def test_a_setting_of_another_type_is_named_with_its_value(name, value):
    (field,) = (
        field for field in fields(TrainConfig) if field.name == name
    )  # a TrainConfig of it fails the tests' types
    with pytest.raises(InputError, match=f"{name} is {value!r}; it must be a (whole )?number$"):
        require_number(field, value)


def test_the_extremes_that_make_sense_are_taken():
    TrainConfig(epochs=1, batch_size=1, workers=0, warmup=0, eval_every=0, ema=0.0, clip=0.0, weight_decay=0.0)
    TrainConfig(size=100, max_size=100, backbone_lr=0.0, seed=2**32 - 1)


def test_every_setting_has_a_flag_that_sets_it_and_a_help_text():
    command = argparse.ArgumentParser()
    add_settings(command)
    examples = {str: "word", int: "7", float: "0.25", int | None: "9", str | None: "word"}
    help = command.format_help()
    sections = ("run", "model", "images", "optimisation", "machine", "housekeeping")
    assert [line[:-1] for line in help.split("\n") if re.fullmatch(r"\w+:", line)] == ["options", *sections]
    for field in fields(TrainConfig):
        flag = "--" + field.name.replace("_", "-")
        assert flag in help and field.metadata["help"]
        if field.name == "categories":
            assert command.parse_args([flag, "cat", "traffic light"]).categories == ["cat", "traffic light"]
            continue
        if field.name == "sizes":
            assert command.parse_args([flag, "640", "800"]).sizes == [640, 800]
            continue
        if field.type is bool:
            parsed = (command.parse_args([word]) for word in (flag, flag.replace("--", "--no-")))
            assert [getattr(given, field.name) for given in parsed] == [True, False]
            continue
        text = field.metadata["choices"][-1] if field.metadata["choices"] else examples[field.type]
        value = getattr(command.parse_args([flag, text]), field.name)
        assert str(value) == text
        assert not hasattr(command.parse_args([]), field.name)  # what is not given is left to TrainConfig
