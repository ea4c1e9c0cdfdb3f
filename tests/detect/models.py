"""Detectors and batches for the tests."""

import torch
from torch import Tensor

from otalab.detect import Detector, build_detector


def eager_detector(backbone: str = "tiny", num_classes: int = 3, seed: int = 0, **options) -> Detector:
    """An untrained detector in evaluation mode whose scores are high, and differ, at every point."""
    torch.manual_seed(seed)
    model = build_detector(backbone, num_classes, **options)
    with torch.no_grad():
        for layer in (model.head.logits, model.head.quality, model.head.sides):
            layer.weight.normal_(std=0.2)
            layer.bias.fill_(1.0)
    return model.eval()


def noise(*sizes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """Random images of the given (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def target(*boxes: tuple[float, ...], labels: list[int] | None = None) -> dict[str, Tensor]:
    """A target dict; labels 0, 1, 0, 1, ... unless given."""
    labels = [i % 2 for i in range(len(boxes))] if labels is None else labels
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def gradients(model: Detector) -> dict[str, Tensor | None]:
    """The gradient of every parameter that learns."""
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
