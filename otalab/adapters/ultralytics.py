"""otalab's assigners in Ultralytics' detectors: use_assigner(YOLO("yolo11n.yaml"), "ota").

Only the rule that says what each point learns is replaced, in the detection loss. Models, losses, trainer and inference
stay Ultralytics'.
"""

import torch
from torch import Tensor, nn
from ultralytics import YOLO
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils.tal import TaskAlignedAssigner
from ultralytics.utils.torch_utils import unwrap_model

from otalab.adapters.matching import Matching, Watch, as_logits
from otalab.assign import AnchorPoints, Assigner, Predictions, Targets
from otalab.checks import require_known
from otalab.errors import InputError

SCORES = ("aligned", "hard")


class OtalabAssigner(TaskAlignedAssigner):
    """A drop-in replacement for a TaskAlignedAssigner (TAL): the same arguments, the same five outputs.

    scores: target of a positive's class score: "aligned", normalised as TAL does it, and 0 where the predicted box
            misses its gt; or "hard", always 1
    """

    def __init__(self, theirs: TaskAlignedAssigner, match: Matching, scores: str = "aligned") -> None:
        super().__init__(theirs.topk, theirs.num_classes, theirs.alpha, theirs.beta, theirs.stride, theirs.eps)
        require_known(SCORES, scores=scores)
        self.match, self.scores = match, scores

    @torch.no_grad()
    def forward(
        self,
        pd_scores: Tensor,  # (B, n, C) probabilities
        pd_bboxes: Tensor,  # (B, n, 4) px
        anc_points: Tensor,  # (n, 2) px
        gt_labels: Tensor,  # (B, M, 1), gts padded to M
        gt_bboxes: Tensor,  # (B, M, 4)
        mask_gt: Tensor,  # (B, M, 1), 0 for padding
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Labels (B, n), boxes (B, n, 4), scores (B, n, C), mask of positives (B, n) and gts (B, n).

        A point that is not positive has the label, box and number of gt 0, and scores of 0.
        """
        if gt_bboxes.shape[1] == 0:  # add a gt of padding, so that gt 0 exists
            gt_labels, gt_bboxes, mask_gt = (
                x.new_zeros(len(x), 1, x.shape[2]) for x in (gt_labels, gt_bboxes, mask_gt)
            )
        real = [own[:, 0].nonzero()[:, 0] for own in mask_gt]  # gts of each image that are no padding
        targets = [Targets(b[r], c[r, 0].long()) for b, c, r in zip(gt_bboxes, gt_labels, real, strict=True)]
        points = points_of(anc_points, self.stride)
        assignments = self.match(points, [*map(Predictions, as_logits(pd_scores), pd_bboxes)], targets)

        positive = torch.stack([a.positive for a in assignments])
        gt = torch.zeros_like(positive, dtype=torch.int64)
        for own, a, r in zip(gt, assignments, real, strict=True):
            own[a.positive] = r[a.matched_gt[a.positive]]
        image = torch.arange(len(gt), device=gt.device)[:, None]
        labels, boxes = gt_labels[image, gt, 0].long(), gt_bboxes[image, gt]

        image, point = positive.nonzero(as_tuple=True)
        at = image, point, labels[positive]
        owner = image * gt_bboxes.shape[1] + gt[positive]
        scores = torch.zeros_like(pd_scores, dtype=gt_bboxes.dtype)
        scores[at] = self.target(pd_scores[at], boxes[positive], pd_bboxes[positive], owner).to(scores)
        return labels, boxes, scores, positive, gt

    def target(self, probability: Tensor, gt_boxes: Tensor, boxes: Tensor, owner: Tensor) -> Tensor:
        """Target (p,) of each positive's class score; `owner` (p,) is equal for the positives of one gt."""
        if self.scores == "hard":
            return torch.ones_like(probability)
        overlap = self.iou_calculation(gt_boxes, boxes)
        alignment = probability**self.alpha * overlap**self.beta
        peak, most = (most_of(x, owner) for x in (alignment, overlap))
        return alignment * most / (peak + self.eps)


def most_of(values: Tensor, owner: Tensor) -> Tensor:
    """For each of the values (p,), the highest value with the same owner."""
    highest = values.new_zeros(int(owner.max()) + 1 if len(owner) else 0)
    return highest.scatter_reduce(0, owner, values, "amax")[owner]


def points_of(xy: Tensor, strides: list[float]) -> AnchorPoints:
    """Points from their positions (n, 2).

    The last one lies half the coarsest stride from the image's lower right corner, which gives the image's size.
    """
    width, height = (int(side + strides[-1] / 2) for side in xy[-1].tolist())
    points = AnchorPoints.for_image((height, width), [*map(int, strides)], device=xy.device)
    if len(points) != len(xy):
        raise InputError(f"{len(xy)} points do not fill {width}x{height} px at strides {strides}")
    return points


def use_assigner(
    model: YOLO | BaseTrainer | nn.Module,
    assigner: str | Assigner = "ota",
    scores: str = "aligned",
    watch: Watch | None = None,
    **options,
) -> YOLO | BaseTrainer | nn.Module:
    """Make the points of a YOLO (before `train`), trainer or detection model learn what `assigner` says; return it.

    scores:  target of a positive's class score, see `OtalabAssigner`
    watch:   called with the list of assignments of each batch
    options: options of the assigner, if it is given by name

    In an end-to-end model only the one-to-many branch changes. The one-to-one branch, which decides which box is kept,
    stays Ultralytics', as do the losses that a validation shows. `train` over several GPUs starts other processes, in
    which nothing is replaced. Raises InputError for unknown names and options, and for models whose loss uses another
    assigner than TaskAlignedAssigner, for example one for rotated boxes.
    """
    require_known(SCORES, scores=scores)
    match = Matching(assigner, watch, **options)
    if isinstance(model, YOLO):  # its trainer makes its own model, and new losses after a NaN
        model.add_callback("on_train_epoch_start", lambda trainer: replace_assigner(trainer.model, match, scores))
    else:
        replace_assigner(model.model if isinstance(model, BaseTrainer) else model, match, scores)
    return model


def replace_assigner(model: nn.Module, match: Matching, scores: str) -> None:
    model = unwrap_model(model)
    if getattr(model, "criterion", None) is None:
        model.criterion = model.init_criterion()
    losses = getattr(model.criterion, "one2many", model.criterion)
    theirs = getattr(losses, "assigner", None)
    if type(theirs) not in (TaskAlignedAssigner, OtalabAssigner):
        raise InputError(f"{type(losses).__name__} has {type(theirs).__name__} and no TaskAlignedAssigner to replace")
    losses.assigner = OtalabAssigner(theirs, match, scores)
