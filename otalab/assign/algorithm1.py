"""Algorithm 1 of the paper on one screen: the definition of the assigner `ota`. Its fast twin is ota.py."""

import torch
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou, sigmoid_focal_loss

from otalab.assign.types import AnchorPoints, Predictions, Targets
from otalab.errors import InputError


@torch.no_grad()
def algorithm1(
    points: AnchorPoints, predictions: Predictions, targets: Targets, *, alpha=1.5, q=20, radius=2.5, gamma=0.0, T=50
) -> Int[Tensor, " n"]:
    """Return the gt that each anchor point learns, -1 for the background. Computes in float64 on the CPU.

    gamma = 0 solves the problem exactly. gamma > 0 runs T Sinkhorn iterations, as in the paper; it raises InputError
    if the gts have more labels than there are points.
    """
    m, n = len(targets), len(points)  # line 1
    inputs = points.xy, points.stride[:, None], predictions.logits, predictions.boxes, targets.boxes  # line 2: given
    xy, stride, logits, boxes, gts = (x.cpu().double() for x in inputs)  # (n, 2), (n, 1), (n, C), (n, 4), (m, 4)

    x1y1, x2y2 = gts[:, None, :2], gts[:, None, 2:]  # (m, 1, 2)
    offset = (xy - (x1y1 + x2y2) / 2).abs()  # (m, n, 2), from each gt's centre
    inside = torch.minimum(xy - x1y1, x2y2 - xy) > 0.01  # (m, n, 2)
    candidate = (inside & (offset < radius * stride)).all(dim=2)  # (m, n)
    lone = ~candidate.any(dim=1, keepdim=True) & (x1y1 < x2y2).all(dim=2)  # (m, 1), gts that lie between the points
    closest = offset.square().sum(dim=2).argmin(dim=1, keepdim=True)  # (m, 1)
    candidate |= torch.zeros_like(candidate).scatter(1, closest, lone) & (offset < stride).all(dim=2)
    c_cp = torch.where(candidate, 0.0, 100.0 if gamma else torch.inf)  # line 8: pairwise centre prior cost, (m, n)

    no, yes = (sigmoid_focal_loss(logits, torch.full_like(logits, target)) for target in (0.0, 1.0))  # (n, C)
    c_bg = no.sum(dim=1)  # line 9: bg cls cost, (n,)
    c_cls = c_bg + (yes - no).T[targets.labels.cpu().long()]  # line 6: pairwise cls cost, (m, n), yes to the gt's class
    iou = box_iou(gts, boxes).nan_to_num()  # (m, n), 0 for two empty boxes
    c_reg = -iou.clamp(min=torch.finfo(torch.float32).eps).log()  # line 7: pairwise reg cost, (m, n)
    c = torch.cat((c_cls + alpha * c_reg + c_cp, c_bg[None]))  # lines 10 and 11: cost matrix, (m + 1, n)

    k = (iou * candidate).topk(min(q, n)).values.sum(dim=1).add(1e-6).long().clamp(min=1)  # line 3: dynamic k, (m,)
    s, d = torch.cat((k, n - k.sum(0, keepdim=True))).double(), torch.ones(n)  # lines 4 and 5: (m + 1,), (n,)
    if gamma:
        if s[-1] < 0:
            raise InputError(f"{int(k.sum())} labels for {n} anchor points; gamma = 0 leaves some out")
        u = torch.ones(m + 1)  # line 12
        for _ in range(T):  # lines 13 and 14: columns, then rows, in logarithms
            v = gamma * (d.log() - ((u[:, None] - c) / gamma).logsumexp(dim=0))  # (n,)
            u = gamma * (s.log() - ((v - c) / gamma).logsumexp(dim=1))  # (m + 1,)
        owner = ((u[:, None] + v - c) / gamma).exp().argmax(dim=0)  # lines 15 and 16: the largest share of a column
        return owner.where(owner < m, -1)

    row, nth = (torch.arange(q) < k[:, None]).nonzero().T  # (K,): a row per label; gt i has the labels 0 to k_i - 1
    over = c[:-1] - c[-1]  # (m, n), cost of a gt's label minus the background's, which the other points get
    penalty = (q - nth) * (1 + over[candidate].abs().sum())  # (K,) to leave a label out: above any cost, the last first
    table = torch.cat((over[row], penalty[:, None].expand(-1, len(row))), dim=1)  # (K, n + K), n points and K ways out
    labels = torch.full((n + len(row),), -1)
    labels[linear_sum_assignment(table)[1]] = row  # line 15, solved exactly: each row gets a column
    return labels[:n]  # line 16
