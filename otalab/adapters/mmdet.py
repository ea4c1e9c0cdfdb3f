"""otalab's assigners in mmdetection's dense heads, by configuration:

custom_imports = dict(imports=["otalab.adapters.mmdet"])
assigner = dict(type="OtalabAssigner", name="ota", scores="root")  # in train_cfg; these scores are for a YOLOX head
"""

from dataclasses import replace

import torch
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from otalab import boxes as box_ops
from otalab.adapters.matching import Matching, Watch, as_logits
from otalab.assign import ATSS, FCOS, AnchorPoints, FoveaBox, MaxIoU, Predictions, Targets
from otalab.checks import require, require_known
from otalab.errors import InputError

STATIC = MaxIoU, ATSS, FCOS, FoveaBox  # these do not look at predictions
SCORES = {
    "probability": as_logits,
    "root": lambda scores: as_logits(scores.double().square()),
    "logit": lambda scores: scores,
}
PRIORS = ("points", "anchors")


@TASK_UTILS.register_module()
class OtalabAssigner(BaseAssigner):
    """An assigner for heads that assign images one by one: those of YOLOX, RTMDet, TOOD, ATSS and RetinaNet.

    name:    name of the assigner, which may include options as in `build_assigner`
    scores:  what the head passes as class scores: "probability" (TOOD), "root" (YOLOX: the square root of class x
             objectness; the product itself is taken as the probability) or "logit" (RTMDet)
    priors:  what the head passes as priors: "points" (x, y, stride, stride: YOLOX, RTMDet) or "anchors" (xyxy: the
             other heads)
    scale:   side of an anchor in strides, for heads with one anchor per point; with several anchors per point, only
             `max-iou` is suitable
    watch:   called for each image with a list of its one assignment
    options: options of the assigner

    Raises InputError for unknown names, words and options, and for a scale that is not positive and finite.
    """

    def __init__(
        self,
        name: str = "ota",
        scores: str = "probability",
        priors: str = "points",
        scale: float = 8.0,
        watch: Watch | None = None,
        **options,
    ) -> None:
        require_known(SCORES, scores=scores)
        require_known(PRIORS, priors=priors)
        require("be positive and finite", scale=scale)
        self.match = Matching(name, watch, **options)
        self.scores, self.priors, self.scale = scores, priors, scale

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData | list[int],
        gt_instances_ignore=None,
        *others,
        **unused,
    ) -> AssignResult:
        """Assign one image: the gt of each point, its label, and the IoU of its predicted box and its gt.

        Gts are numbered from 1; 0 is background and -1 ignored. The label of a point that is not positive is -1 and its
        IoU 0. ATSS's head passes its numbers of anchors per level before the gts. TOOD's head also passes alpha and
        beta, and asks for the alignments s^alpha * IoU^beta, where s is the predicted probability of the gt's class.
        Raises InputError if the assigner looks at predictions and the head has none yet.
        """
        if isinstance(gt_instances, list):
            gt_instances, gt_instances_ignore, *others = gt_instances_ignore, *others
        targets = Targets(gt_instances.bboxes, gt_instances.labels.long())
        if gt_instances_ignore is not None and len(gt_instances_ignore):
            targets = replace(targets, ignore_boxes=gt_instances_ignore.bboxes)
        points, predictions = self.points_of(pred_instances.priors), self.predictions(pred_instances, targets)
        found = self.match(points, [predictions], [targets])[0]

        positive, owner = found.positive, found.matched_gt[found.positive]
        overlaps, alignments = (torch.zeros_like(points.stride) for _ in range(2))
        labels = torch.full_like(found.matched_gt, -1)
        labels[positive] = targets.labels[owner]
        overlaps[positive] = box_ops.iou(predictions.boxes[positive], targets.boxes[owner]).to(overlaps)
        result = AssignResult(len(targets), found.matched_gt + 1, overlaps, labels)
        if len(others) == 2:
            alpha, beta = others
            probability = predictions.logits[positive, labels[positive]].sigmoid()
            alignments[positive] = (probability**alpha * overlaps[positive] ** beta).to(alignments)
            result.assign_metrics = alignments
        return result

    def points_of(self, priors: Tensor) -> AnchorPoints:
        """The priors (n, 4) as points, one level after another."""
        if self.priors == "points":
            xy, stride, anchors = priors[:, :2], priors[:, 2], None
        else:
            xy, anchors = box_ops.centres(priors), priors
            stride = box_ops.box_area(priors).sqrt() / self.scale
        return AnchorPoints(xy, stride, (stride.diff(prepend=stride[:1]) != 0).cumsum(0), anchors=anchors)

    def predictions(self, instances: InstanceData, targets: Targets) -> Predictions:
        """The head's predictions; if it has none yet, its priors as boxes, which suffice for the `STATIC` assigners."""
        if "scores" in instances:
            return Predictions(SCORES[self.scores](instances.scores.detach()), instances.bboxes.detach())
        if not isinstance(self.match.assigner, STATIC):
            raise InputError(
                f"{type(self.match.assigner).__name__} looks at predictions, and this head assigns by priors alone; "
                f"{', '.join(rule.__name__ for rule in STATIC)} do without"
            )
        classes = int(targets.labels.max()) + 1 if len(targets) else 1
        return Predictions(instances.priors.new_zeros(len(instances.priors), classes), instances.priors)
