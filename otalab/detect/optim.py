"""Optimiser, learning-rate schedule and moving average of the weights."""

import math

import torch
from torch import nn

from otalab.detect.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD with up to four parameter groups: in the backbone or not, with weight decay or without.

    Norms, biases and other vectors have no weight decay, and neither have the parameters of the assigner.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and not name.startswith("assigner.")
            groups.setdefault((name.startswith("backbone.body"), decayed), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": config.peak_lr * (config.backbone_lr if in_backbone else 1),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=config.peak_lr, momentum=0.9)
    return torch.optim.AdamW(settings, lr=config.peak_lr)


def lr_factor(step: int, total: int, config: TrainConfig) -> float:
    """The learning rate at `step` (from 0) of `total` as a fraction of its peak; without state, so runs can resume."""
    warmup = min(config.warmup, total)
    if step < warmup:
        return 1e-3 + (1 - 1e-3) * step / warmup
    if config.schedule == "step":
        return 0.1 ** sum(step >= total * part for part in (2 / 3, 8 / 9))
    done = (step - warmup) / (total - warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `model`. The decay starts small, so that the average soon forgets the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if value.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
