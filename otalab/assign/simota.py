"""SimOTA: OTA's costs and dynamic k; each gt chooses alone. Source: Ge et al., YOLOX, arXiv 2107.08430, Sec. 2.1."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from otalab import boxes as box_ops
from otalab.assign.base import Assigner, best, from_labels, top_k
from otalab.assign.cost import dynamic_k
from otalab.assign.prior import inside
from otalab.assign.types import AnchorPoints, Assignment, Predictions, Targets
from otalab.checks import require, require_known

REGIONS = ("centre", "box or centre")
CONFLICTS = ("cost", "price")
MMDETECTION = {"region": "box or centre", "center_radius": 2.5, "iou_eps": 1e-7, "off_region": 1e5}


@dataclass(frozen=True)
class SimOTA(Assigner):
    """Each gt takes its k cheapest points; a point that several gts take goes to one gt.

    The cost of a point is the cross entropy of p = sqrt(sigmoid(logit) * sigmoid(quality)) against the gt's class,
    summed over classes, plus `iou_weight` * -ln(IoU + `iou_eps`), plus `off_region` if the point is outside the gt's
    own region. Unlike in OTA, no background cost is subtracted. The defaults are those of YOLOX's repository.
    `SimOTA(**MMDETECTION)` is mmdetection's; with `iou_eps` 1e-8 it is that of YOLOX's releases up to 0.3. `deficit`
    says by how many points a gt falls short of its k.

    region:        a gt's own region. "centre": a square around its centre, with half sides of `center_radius` strides;
                   points outside the squares of all gts are background. "box or centre": the part of that square inside
                   the box; points outside the boxes and squares of all gts are background
    q:             number of a gt's highest IoUs whose sum is k, rounded down, at least 1
    cls_weight:    factor of the cross entropy
    conflicts:     which gt gets a point that several gts take:
        "cost"   the gt of least cost, even one that did not take it
        "price"  the gt that gains most by it. The gain is price - cost, and a gt's price is the cost of its k-th
                 cheapest point. Ties, for example between gts that want one point each, go to the least cost

    Of all ways to give each gt as many points as it got, "price" finds the cheapest. The prices, with the gains as the
    points' rents, are a dual solution that proves it. This is also the first step of the exact solver augmenting-path,
    which then finds augmenting paths for the gts that are short.
    """

    region: str = "centre"
    center_radius: float = 1.5
    q: int = 10
    cls_weight: float = 1.0
    iou_weight: float = 3.0
    iou_eps: float = 1e-8
    off_region: float = 1e6
    conflicts: str = "cost"

    def __post_init__(self) -> None:
        require_known(REGIONS, region=self.region)
        require_known(CONFLICTS, conflicts=self.conflicts)
        require("be a whole number of at least 1", q=self.q)
        require("be positive and finite", center_radius=self.center_radius, iou_eps=self.iou_eps)
        weights = {"cls_weight": self.cls_weight, "iou_weight": self.iou_weight, "off_region": self.off_region}
        require("be finite and not negative", **weights)

    def assign(self, points: AnchorPoints, predictions: Predictions, targets: Targets) -> Assignment:
        cost, k = self.problem(points, predictions, targets)
        matched_gt = (by_cost if self.conflicts == "cost" else by_price)(cost, k)
        return from_labels(matched_gt, len(k), k)

    def problem(
        self, points: AnchorPoints, predictions: Predictions, targets: Targets
    ) -> tuple[Float[Tensor, "m n"], Int[Tensor, " m"]]:
        """The cost of every pair, +inf at points that no gt may have, and the k of every gt."""
        own = somewhere = inside(points, targets.boxes, self.center_radius, margin=-torch.inf)  # each gt's own region
        if self.region == "box or centre":
            in_box = inside(points, targets.boxes)
            own, somewhere = own & in_box, own | in_box
        anyones = somewhere.any(dim=0)  # (n,)
        iou = box_ops.iou(predictions.boxes, targets.boxes[:, None])
        cost = self.cls_weight * cross_entropy(predictions, targets.labels)
        cost = cost - self.iou_weight * (iou + self.iou_eps).log() + self.off_region * ~own
        k = dynamic_k(iou.where(anyones, 0.0), self.q, slack=1e-6)
        return cost.masked_fill(~anyones, torch.inf), k


def by_cost(cost: Float[Tensor, "m n"], k: Int[Tensor, " m"]) -> Int[Tensor, " n"]:
    """Each gt takes its k cheapest points; one that several take goes to the gt of least cost. -1 for the others."""
    taken = top_k(-cost, k) & cost.isfinite()
    return best(-cost, taken | (taken.sum(dim=0) > 1))


def by_price(cost: Float[Tensor, "m n"], k: Int[Tensor, " m"]) -> Int[Tensor, " n"]:
    """As `by_cost`, but a point that several take goes to that one of them which gains most.

    The gain is the cost of the gt's k-th cheapest point, or of its last if there are fewer, minus that of the point.
    """
    taken = top_k(-cost, k) & cost.isfinite()
    price = cost.masked_fill(~taken, -torch.inf).amax(dim=1, keepdim=True)
    gain = (price - cost).masked_fill(~taken, -torch.inf)
    return best(-cost, taken & (gain == gain.amax(dim=0)))


def cross_entropy(predictions: Predictions, labels: Int[Tensor, " m"]) -> Float[Tensor, "m n"]:
    """Cross entropy of sqrt(sigmoid(logit) * sigmoid(quality)) against each gt's class, summed over classes.

    Computed as the cost of "no object" plus the difference that the gt's class makes. A class costs at most 100, as in
    PyTorch's `binary_cross_entropy`. Unlike there, 1 - p is not rounded to 0 before the logarithm.
    """
    log_p = logsigmoid(predictions.logits.double())
    if predictions.quality is not None:
        log_p = log_p + logsigmoid(predictions.quality.double())[:, None]
    log_p = log_p / 2
    positive, negative = -log_p.clamp(min=-100), -(-log_p.expm1()).log().clamp(min=-100)  # (n, C)
    return negative.sum(dim=1) + (positive - negative).T[labels]
