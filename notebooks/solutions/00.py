"""Lesson 00: move one box, so that a point passes between two other gts."""

from itertools import product

import numpy as np
import torch

from otalab.assign import AnchorPoints, Targets, build_assigner
from otalab.data.scene import CLASS_NAMES, ShapesConfig, draw_scene
from otalab.lab.simulate import simulate_predictions
from otalab.lessons import lesson00

look = {"texture": 0.0, "noise": 0.0, "contrast": 0.35, "min_visible": 0.45}
config = ShapesConfig(crowd=1.0, min_objects=6, max_objects=6, min_size=22.0, max_size=56.0, **look)
scene = draw_scene(config, np.random.default_rng(14))
crowd = Targets(torch.from_numpy(scene.boxes), torch.from_numpy(scene.labels))
points = AnchorPoints.for_image((128, 128), strides=(8, 16, 32))
guesses = simulate_predictions(points, crowd, len(CLASS_NAMES), torch.Generator().manual_seed(14))
assigner = build_assigner("ota")
before = assigner(points, guesses, crowd)


def shifted(gt, dx, dy):
    """The boxes of the crowd after gt `gt` moved by (dx, dy) px, and the new assignment."""
    boxes = crowd.boxes.clone()
    boxes[gt] += torch.tensor([dx, dy, dx, dy])
    return boxes, assigner(points, guesses, Targets(boxes, crowd.labels))


def passed_on(gt, after):
    """The points that pass from one gt to another, where neither of the two is `gt`."""
    was, now = before.matched_gt, after.matched_gt
    return ((was >= 0) & (now >= 0) & (was != now) & (was != gt) & (now != gt)).nonzero().flatten().tolist()


# Move each box a little in each direction, until a point passes between two other gts.
for gt, dx, dy in product(range(6), (-4, 0, 4), (-4, 0, 4)):
    boxes, after = shifted(gt, dx, dy)
    if passed_on(gt, after):
        break

box = boxes[gt]
taker = int(after.matched_gt[passed_on(gt, after)[0]])
count = int(before.counts[taker])  # unchanged: its k depends only on its own box and the predictions
verdict = lesson00.check(points, guesses, crowd, gt, box, taker, count)
print(verdict)


# Harder: find a move after which four of the five others have other points.
def others_changed(gt, after):
    mine = [i for i in range(6) if i != gt]
    return [i for i in mine if not torch.equal(before.matched_gt == i, after.matched_gt == i)]


most = max(
    product(range(6), range(-12, 13, 4), range(-12, 13, 4)), key=lambda m: len(others_changed(m[0], shifted(*m)[1]))
)
print(f"gt {most[0]} moved by {most[1:]} px: gts {others_changed(most[0], shifted(*most)[1])} change points")
