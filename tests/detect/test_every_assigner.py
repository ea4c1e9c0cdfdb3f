"""The same training loop runs every assigner, and every parameter learns."""

import pytest
import torch

from otalab.assign import ASSIGNERS
from otalab.data import CLASS_NAMES
from otalab.data.coco import CocoDataset
from otalab.detect import build_detector

STEPS = 12


@pytest.mark.parametrize("name", ASSIGNERS)
def test_losses_fall_while_an_image_batch_is_learnt(name, shapes):
    dataset = CocoDataset.from_folder(shapes, "train", background=0)
    images, targets = zip(*(dataset[i] for i in range(2)), strict=True)
    torch.manual_seed(0)
    model = build_detector("tiny", len(CLASS_NAMES), assigner=name).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses, learns = [], set()
    for _ in range(STEPS):
        parts = model(list(images), list(targets))
        loss = sum(parts.values())
        assert loss.isfinite(), parts
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        learns |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3]), losses
    assert all(p.isfinite().all() for p in model.parameters())
    still = {name for name, _ in model.named_parameters()} - learns
    assert still == (set() if model.assigner.trains_quality else {"head.quality.weight", "head.quality.bias"})
