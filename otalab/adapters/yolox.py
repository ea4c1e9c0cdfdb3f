"""otalab's assigners in YOLOX: use_assigner(model, "ota").

Only the rule that says what each point learns is replaced. Models, losses, trainer and inference stay YOLOX's.
"""

from functools import partial

import torch
from torch import Tensor, nn
from yolox.models import YOLOXHead

from otalab import boxes as box_ops
from otalab.adapters.matching import Matching, Watch
from otalab.assign import AnchorPoints, Assigner, Predictions, Targets
from otalab.errors import InputError


def use_assigner(
    model: nn.Module, assigner: str | Assigner = "ota", watch: Watch | None = None, **options
) -> nn.Module:
    """Make the points of a model or head learn what `assigner` says; return it. `del head.get_assignments` undoes this.

    watch:   called with a list of one assignment for each image that has gts: YOLOX assigns no others
    options: options of the assigner, if it is given by name

    The target of a positive's class score is the IoU of predicted box and gt, as in YOLOX. Scores and weights that an
    assignment may carry are not used, and its ignored points count as background. Raises InputError for other models,
    unknown names and options.
    """
    head = getattr(model, "head", model)
    if not isinstance(head, YOLOXHead):
        raise InputError(f"a YOLOX or its head can use an assigner, not {type(model).__name__}")
    head.get_assignments = partial(get_assignments, Matching(assigner, watch, **options))
    return model


@torch.no_grad()
def get_assignments(
    match: Matching,
    batch_idx: int,
    num_gt: int,
    total_num_anchors: int,
    gt_bboxes_per_image: Tensor,  # (m, 4) centre and size in px
    gt_classes: Tensor,  # (m,) float
    bboxes_preds_per_image: Tensor,  # (n, 4) centre and size in px
    expanded_strides: Tensor,  # (1, n)
    x_shifts: Tensor,  # (1, n) in cells
    y_shifts: Tensor,
    cls_preds: Tensor,  # (B, n, C) logits
    bbox_preds: Tensor,
    obj_preds: Tensor,  # (B, n, 1) logits
    *unused: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """`YOLOXHead.get_assignments`: class of the positives (p,), their mask (n,), IoU (p,), gt (p,) and number p."""
    stride = expanded_strides[0]
    xy = (torch.stack((x_shifts[0], y_shifts[0]), dim=1) + 0.5) * stride[:, None]
    level = (stride.diff(prepend=stride[:1]) != 0).cumsum(0)
    gts, boxes = as_corners(gt_bboxes_per_image), as_corners(bboxes_preds_per_image)
    predictions = Predictions(cls_preds[batch_idx], boxes, obj_preds[batch_idx, :, 0])
    found = match(AnchorPoints(xy, stride, level), [predictions], [Targets(gts, gt_classes.long())])[0]
    owner = found.matched_gt[found.positive]
    iou = box_ops.iou(boxes[found.positive], gts[owner])
    return gt_classes[owner], found.positive, iou, owner, len(owner)


def as_corners(boxes: Tensor) -> Tensor:
    """Boxes given as centre and size, as xyxy in float32."""
    return box_ops.around(boxes[:, :2].float(), boxes[:, 2:].float().repeat(1, 2) / 2)
