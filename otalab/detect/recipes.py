"""Recipes: named sets of `TrainConfig` settings, for `otalab train --recipe NAME`. Other flags override them.

The paper's recipes follow its Section 4.1 and the authors' configuration. docs/training.md says which recipes were run.
"""

AS_PUBLISHED = {"assigner": "ota", "balance": 0.0}  # the paper's values; the defaults of `TrainConfig` differ
PAPER = {
    "data": "data/coco",
    "backbone": "resnet50",
    "weights_backbone": "IMAGENET1K_V1",
    **AS_PUBLISHED,
    "optimizer": "sgd",
    "lr": 0.01,
    "lr_batch": 16,
    "batch_size": 16,
    "weight_decay": 1e-4,
    "warmup": 1000,
    "schedule": "step",
    "steps": 90_000,
    "size": 800,
    "max_size": 1333,
    "augment": "flip",
    "background": 0,
    "clip": 0.0,
    "ema": 0.0,
    "workers": 4,
    "checkpoint_every": 2000,
}
TWICE = {"steps": 180_000, "sizes": (640, 672, 704, 736, 768, 800)}
SUBSET = PAPER | {
    "assigner": "ota:k=5",
    "balance": 1.0,
    "steps": None,
    "epochs": 24,
    "size": 512,
    "max_size": 853,
    "augment": "light",
    "ema": 0.999,
}
PHOTOS = {
    "backbone": "mobilenet_v2",
    "weights_backbone": "IMAGENET1K_V1",
    "augment": "light",
    "batch_size": 8,
    "lr": 1e-3,
    "backbone_lr": 0.3,
    "warmup": 100,
}

RECIPES: dict[str, tuple[str, dict[str, object]]] = {
    "paper-r50-1x": ("the paper's: FCOS-ResNet-50 on COCO, 90,000 steps of 16 images, 800 px", PAPER),
    "paper-r50-2x-ms": ("twice as long, images of 640 to 800 px", PAPER | TWICE),
    "paper-r101-2x-ms": ("the same with ResNet-101", PAPER | TWICE | {"backbone": "resnet101"}),
    "paper-x101-2x-ms": ("the same with ResNeXt-101 64x4d", PAPER | TWICE | {"backbone": "resnext101_64x4d"}),
    "subset-r18": ("5,000 to 10,000 photos on one GPU", SUBSET | {"backbone": "resnet18"}),
    "subset-r50": ("the same with ResNet-50", SUBSET),
    "laptop": (
        "a few hundred photos of COCO at 320 px, on a CPU",
        PHOTOS | {"data": "data/coco", "augment": "strong", "backbone_lr": 0.2, "epochs": 100, "eval_every": 20},
    ),
    "cells": ("BCCD's blood cells, on a CPU", PHOTOS | {"data": "data/bccd", "epochs": 15, "eval_every": 5}),
}
