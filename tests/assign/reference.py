"""The authors' assignment, written anew in NumPy from its description: dense, literal, slow.

The oracle of `ota-official`, independent of otalab on purpose. In float64 it is what must come out, label for label; in
float32 it shows what the code gives as it is run in practice.
"""

from dataclasses import dataclass

import numpy as np

OFF_PRIOR = 1e6
# Beside 1e6 a float64 cost is rounded to 1.2e-10, so a share exp(cost / 0.1) is known to a few 1e-9.
TIE = 1e-8


@dataclass(frozen=True)
class Reference:
    labels: np.ndarray  # (n,) gt index, -1 background
    supply: np.ndarray  # (m + 1,)
    iou_sums: np.ndarray  # (m,) before they are truncated
    prior: np.ndarray  # (m, n) bool
    cost: np.ndarray  # (m + 1, n)
    plan: np.ndarray  # (m + 1, n)
    share: np.ndarray  # (m + 1, n) the plan, each row over its maximum

    @property
    def tied(self) -> np.ndarray:
        """(n,) points whose two largest shares cannot be told apart."""
        second, first = np.sort(self.share, axis=0)[-2:]
        return first - second <= TIE * first


def official(xy, stride, logits, boxes, gt_boxes, gt_labels, dtype=np.float64, eps=0.1, iterations=50) -> Reference:
    """(n, 2), (n,), (n, C), (n, 4) xyxy, (m, 4) xyxy, (m,) -> Reference; m is at least 1."""
    xy, stride, logits, boxes, gt_boxes = (np.asarray(a, dtype=dtype) for a in (xy, stride, logits, boxes, gt_boxes))
    prior = centre_prior(xy, stride, gt_boxes)
    iou = iou_of_sides(sides(xy, boxes)[None], sides(xy[None], gt_boxes[:, None]))
    cls = np.stack([focal(logits, one_hot(label, logits.shape[1], dtype)).sum(axis=1) for label in gt_labels])
    reg = -np.log(np.maximum(iou, np.finfo(np.float32).eps))
    foreground = cls + dtype(1.5) * reg + dtype(OFF_PRIOR) * (1 - prior.astype(dtype))
    background = focal(logits, np.zeros(logits.shape[1], dtype)).sum(axis=1)
    cost = np.concatenate((foreground, background[None]))

    top = -np.sort(-(iou * prior), axis=1)[:, :20]
    iou_sums = top.sum(axis=1)
    k = np.maximum(iou_sums.astype(np.int64), 1)
    supply = np.append(k, len(xy) - k.sum()).astype(dtype)

    plan = sinkhorn(cost, supply, dtype(eps), iterations)
    share = plan / plan.max(axis=1, keepdims=True)
    labels = share.argmax(axis=0)
    return Reference(
        np.where(labels == len(gt_boxes), -1, labels), supply.astype(np.int64), iou_sums, prior, cost, plan, share
    )


def centre_prior(xy, stride, gt_boxes):
    """(m, n): more than 0.01 px inside the gt, and inside 2.5 strides of its centre, that square clipped to the gt."""
    inside = sides(xy[None], gt_boxes[:, None]).min(axis=-1) > 0.01
    centre = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    central = np.zeros_like(inside)
    for step in np.unique(stride):
        level = stride == step
        low = np.maximum(centre - 2.5 * step, gt_boxes[:, :2])
        high = np.minimum(centre + 2.5 * step, gt_boxes[:, 2:])
        square = np.concatenate((low, high), axis=1)
        central[:, level] = sides(xy[None, level], square[:, None]).min(axis=-1) > 0
    return inside & central


def sides(xy, boxes):
    """Distances from points to the left, top, right and bottom side."""
    return np.concatenate((xy - boxes[..., :2], boxes[..., 2:] - xy), axis=-1)


def iou_of_sides(a, b):
    """IoU of two boxes that are seen from the same point."""
    widths = [np.maximum(box[..., 0] + box[..., 2], 0) for box in (a, b)]
    heights = [np.maximum(box[..., 1] + box[..., 3], 0) for box in (a, b)]
    least = np.minimum(a, b)
    overlap = np.maximum(least[..., 0] + least[..., 2], 0) * np.maximum(least[..., 1] + least[..., 3], 0)
    union = widths[0] * heights[0] + widths[1] * heights[1] - overlap
    return overlap / np.maximum(union, np.finfo(np.float32).eps)


def one_hot(label, num_classes, dtype):
    return (np.arange(num_classes) == int(label)).astype(dtype)


def focal(logits, target):
    """Elementwise sigmoid focal loss, alpha 0.25, gamma 2."""
    p = np.exp(-np.logaddexp(0, -logits))
    cross_entropy = np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))
    p_of_target = p * target + (1 - p) * (1 - target)
    return (0.25 * target + 0.75 * (1 - target)) * (1 - p_of_target) ** 2 * cross_entropy


def sinkhorn(cost, supply, eps, iterations):
    """Log-domain Sinkhorn: u and v start at one, columns then rows, each step adds to the potential it mends."""
    small = cost.dtype.type(1e-8)
    u, v = np.ones_like(supply), np.ones_like(cost[0])
    log_supply = np.log(supply + small) if supply[-1] >= 0 else np.full_like(supply, np.nan)  # no log of less than 0
    for _ in range(iterations):
        v = eps * (np.log(np.ones_like(v) + small) - log_sum_exp((-cost + u[:, None] + v) / eps, axis=0)) + v
        u = eps * (log_supply - log_sum_exp((-cost + u[:, None] + v) / eps, axis=1)) + u
    return np.exp((-cost + u[:, None] + v) / eps)


def log_sum_exp(x, axis):
    top = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=axis)) + top.squeeze(axis)
