"""Lesson 06: compare how many labels are asked for with how many points there are, from the finest grid on."""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from otalab import boxes as box_ops
from otalab.assign import RadiusPrior, build_assigner, dynamic_k
from otalab.lessons import lesson06


def wishes(stride):
    """The points, each gt's k, and a mask (m, n) of the points that each gt may have."""
    points, predictions, targets = lesson06.crowd(stride)
    inside = RadiusPrior()(points, targets.boxes)  # (m, n)
    iou = box_ops.iou(predictions.boxes, targets.boxes[:, None])
    return points, dynamic_k(iou * inside, q=20), inside  # IoUs outside the prior do not count


for stride in range(8, 65):
    points, k, _ = wishes(stride)
    if int(k.sum()) > len(points):
        print(f"stride {stride}: {int(k.sum())} labels asked for, {len(points)} points")
        break

verdict = lesson06.check(stride)
print(verdict)

# The harder problem: at stride 8 there are enough points, but too few of them in the priors. How many labels get none?
points, k, inside = wishes(8)
rows = inside.repeat_interleave(k, dim=0).numpy()  # a row for each label
partner = maximum_bipartite_matching(csr_array(rows), perm_type="column")
lacking = int((partner < 0).sum())
print(f"stride 8: {len(rows)} labels asked for, {len(points)} points, {np.sum(partner >= 0)} labels can be placed")
assert lacking == int(build_assigner("ota")(*lesson06.crowd(8)).deficit.sum())
