"""Lesson 10: overfit the crowded scene."""

import torch

from otalab.assign import build_assigner
from otalab.detect import build_detector
from otalab.detect.detector import as_targets
from otalab.lessons import lesson10


def overfit(steps=60, peak=3e-3):
    """Train a detector on the crowded scene alone."""
    torch.manual_seed(0)
    model = build_detector("tiny", num_classes=1, channels=32, num_convs=1)
    image, target = lesson10.scene()
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak)
    model.train()
    for step in range(steps):
        # the learning rate rises for ten steps, and falls over the last twenty so that the labels settle
        optimizer.param_groups[0]["lr"] = peak * min(1, (step + 1) / 10, (steps - step) / 20)
        loss = sum(model([image], [target]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


model = overfit()
verdict = lesson10.check(model)
print(verdict)


# The harder problem
@torch.no_grad()
def first_k(start, seed=0, scenes=8):
    """The mean k for an untrained detector whose boxes reach about `start` strides to each side."""
    torch.manual_seed(seed)
    model = build_detector("tiny", num_classes=1, channels=32, num_convs=1).train()
    torch.nn.init.constant_(model.head.sides.bias, start)
    images, targets = zip(*(lesson10.draw(1, number) for number in range(scenes)), strict=True)
    points, predictions = model.predict(list(images))
    found = build_assigner("ota").assign_batch(points, predictions, [as_targets(target) for target in targets])
    return float(torch.cat([each.counts + each.deficit for each in found]).double().mean())
