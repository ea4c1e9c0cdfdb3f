"""Lesson 00: shrink a gt, and work out its k."""

import numpy as np
import torch

from otalab.assign import AnchorPoints, RadiusPrior, Targets
from otalab.boxes import iou
from otalab.data.scene import CLASS_NAMES, ShapesConfig, draw_scene
from otalab.lab.simulate import simulate_predictions
from otalab.lessons import lesson00

look = {"texture": 0.0, "noise": 0.0, "contrast": 0.35, "min_visible": 0.45}
config = ShapesConfig(crowd=1.0, min_objects=6, max_objects=6, min_size=22.0, max_size=56.0, **look)
scene = draw_scene(config, np.random.default_rng(366))
targets = Targets(torch.from_numpy(scene.boxes), torch.from_numpy(scene.labels))
points = AnchorPoints.for_image((128, 128), strides=(8, 16, 32))
predictions = simulate_predictions(points, targets, len(CLASS_NAMES), torch.Generator().manual_seed(366))

# Half the sides about the same middle. The predictions fit the old box: k falls.
gt = 0
x1, y1, x2, y2 = targets.boxes[gt].double()
box = torch.stack(((3 * x1 + x2) / 4, (3 * y1 + y2) / 4, (x1 + 3 * x2) / 4, (y1 + 3 * y2) / 4))

candidates = RadiusPrior()(points, box[None])[0]  # (n,) the small box has candidates of its own
overlap = iou(box, predictions.boxes.double()) * candidates
new_k = max(1, int(overlap.sort(descending=True).values[:20].sum()))

verdict = lesson00.check(points, predictions, targets, gt, box, new_k)
print(verdict)
