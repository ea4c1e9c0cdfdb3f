"""otalab's assigners in torchvision's FCOS and RetinaNet: use_assigner(model, "ota").

Only the rule that says what each point learns is replaced. Weights, losses, transforms and inference stay
torchvision's. The training loop stays the user's own.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet

from otalab import boxes as box_ops
from otalab.adapters.matching import Matching, Watch
from otalab.assign import AnchorPoints, Assigner, Predictions, Targets
from otalab.checks import require_known
from otalab.errors import InputError

QUALITIES = ("centre-ness", "iou")


def use_assigner(
    model: nn.Module,
    assigner: str | Assigner = "ota",
    quality: str = "centre-ness",
    watch: Watch | None = None,
    **options,
) -> nn.Module:
    """Make the model's anchors learn what `assigner` says, and return it; `del model.compute_loss` undoes this.

    quality: what FCOS's centre-ness branch learns: "centre-ness", which is 0 at a point outside its gt, or "iou", the
             IoU of the predicted box and the gt
    watch:   called with the list of assignments of each batch
    options: options of the assigner, if it is given by name

    FCOS's loss cannot ignore points: ignored ones count as background. RetinaNet's loss leaves them out. Scores and
    weights that an assignment may carry are not used. Raises InputError for other models, unknown names and options.
    """
    require_known(QUALITIES, quality=quality)
    if not isinstance(model, FCOS | RetinaNet):
        raise InputError(f"torchvision's FCOS or RetinaNet can use an assigner, not {type(model).__name__}")
    match = Matching(assigner, watch, **options)
    if isinstance(model, FCOS):
        model.compute_loss = partial(fcos_losses, model, match, quality)
    else:
        if not hasattr(model.anchor_generator, "layout"):
            model.anchor_generator.register_forward_hook(remember_layout)
        model.compute_loss = partial(retinanet_losses, model, match)
    return model


def fcos_losses(
    model: FCOS,
    match: Matching,
    quality: str,
    targets: list[dict[str, Tensor]],
    outputs: dict[str, Tensor],
    anchors: list[Tensor],
    num_anchors_per_level: list[int],
) -> dict[str, Tensor]:
    """`FCOS.compute_loss`. Each anchor is a point, whose stride is the anchor's width, as in torchvision's own rule."""
    stacked = torch.stack(anchors)  # (B, n, 4)
    boxes = model.box_coder.decode(outputs["bbox_regression"].detach(), stacked)
    width = anchors[0][:, 2] - anchors[0][:, 0]
    points = AnchorPoints(box_ops.centres(anchors[0]), width, levels(num_anchors_per_level, width.device))
    predictions = map(Predictions, outputs["cls_logits"], boxes, outputs["bbox_ctrness"].squeeze(2))
    assignments = match(points, [*predictions], as_targets(targets))
    losses = model.head.compute_loss(targets, outputs, anchors, [a.matched_gt for a in assignments])

    positive = torch.stack([a.positive for a in assignments])  # (B, n)
    gts = torch.cat([t["boxes"][a.matched_gt[a.positive]] for t, a in zip(targets, assignments, strict=True)])
    if quality == "iou":
        wanted = box_ops.iou(boxes[positive], gts)
    else:  # torchvision's own is NaN at a point outside its gt, which its own rule never assigns
        wanted = centre_ness(box_ops.centres(stacked[positive]), gts)
    logits = outputs["bbox_ctrness"].squeeze(2)[positive]
    total = F.binary_cross_entropy_with_logits(logits, wanted.to(logits), reduction="sum")
    return losses | {"bbox_ctrness": total / max(1, len(gts))}


def centre_ness(xy: Tensor, boxes: Tensor) -> Tensor:
    """Centre-ness of points (p, 2) in boxes (p, 4): 1 at the middle, 0 on the border and outside. FCOS, Eq. 3."""
    left, top, right, bottom = box_ops.ltrb(xy, boxes).clamp(min=0).unbind(dim=1)
    across, along = (torch.minimum(a, b) / torch.maximum(a, b) for a, b in ((left, right), (top, bottom)))
    return (across * along).sqrt()


def retinanet_losses(
    model: RetinaNet,
    match: Matching,
    targets: list[dict[str, Tensor]],
    outputs: dict[str, Tensor],
    anchors: list[Tensor],
) -> dict[str, Tensor]:
    """`RetinaNet.compute_loss`. Each anchor is a point with an anchor box, and by default nine share one place."""
    sizes, strides = model.anchor_generator.layout
    level = levels(sizes, anchors[0].device)
    stride = torch.tensor(strides, dtype=anchors[0].dtype, device=level.device)[level]
    points = AnchorPoints(box_ops.centres(anchors[0]), stride, level, anchors=anchors[0])
    sides = outputs["bbox_regression"].detach().to(anchors[0].dtype)
    boxes = [model.box_coder.decode_single(own, where) for own, where in zip(sides, anchors, strict=True)]
    assignments = match(points, [*map(Predictions, outputs["cls_logits"], boxes)], as_targets(targets))
    return model.head.compute_loss(targets, outputs, anchors, [a.matched_gt for a in assignments])


def remember_layout(generator: nn.Module, inputs: tuple, anchors: list[Tensor]) -> None:
    """Store each level's number of anchors and stride in px on the generator: the loss is not given them."""
    images, maps = inputs
    (height, width), per_cell = images.tensors.shape[-2:], generator.num_anchors_per_location()
    sizes = [x.shape[-2] * x.shape[-1] * a for x, a in zip(maps, per_cell, strict=True)]
    generator.layout = sizes, [max(height // x.shape[-2], width // x.shape[-1]) for x in maps]


def levels(sizes: list[int], device: torch.device) -> Tensor:
    """The level of each anchor, (n,) int64."""
    return torch.cat([torch.full((size,), level, device=device) for level, size in enumerate(sizes)])


def as_targets(targets: list[dict[str, Tensor]]) -> list[Targets]:
    return [Targets(t["boxes"], t["labels"]) for t in targets]
