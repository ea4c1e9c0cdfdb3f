"""From dense predictions to the final boxes of an image."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from otalab.assign import AnchorPoints, Predictions


@dataclass(frozen=True)
class PostProcess:
    """The steps from dense predictions to final boxes, in the order of the OTA authors' code.

    Score threshold, the best `per_level` of each level, NMS by class, the best `per_image` of the image, clip. Scores
    are those of `class_scores`. With `clip_first`, boxes are clipped before NMS, as in torchvision; NMS then compares
    only their parts inside the image, and boxes that become empty stay.
    """

    score_threshold: float = 0.05
    per_level: int = 1000
    nms_iou: float = 0.6
    per_image: int = 100
    clip_first: bool = False

    def __call__(self, points: AnchorPoints, predictions: Predictions, size: tuple[int, int]) -> dict[str, Tensor]:
        """A dict of boxes (d, 4) xyxy px, clipped to `size` (height, width), labels (d,) and scores (d,), best first.

        A box that lies outside the image is dropped, except with `clip_first`.
        """
        scores = class_scores(predictions.logits, predictions.quality)
        boxes, labels, kept_scores = [], [], []
        for level in range(len(points.level.unique())):
            on_level = points.level == level
            flat = scores[on_level].flatten()
            above = (flat > self.score_threshold).nonzero().squeeze(1)
            best, order = flat[above].topk(min(self.per_level, len(above)))
            point, label = above[order] // scores.shape[1], above[order] % scores.shape[1]
            boxes.append(predictions.boxes[on_level][point])
            labels.append(label)
            kept_scores.append(best)
        found = {"boxes": torch.cat(boxes), "labels": torch.cat(labels), "scores": torch.cat(kept_scores)}
        if self.clip_first:
            found["boxes"] = clip_boxes_to_image(found["boxes"], size)
        if len(found["boxes"]):
            # batched_nms separates classes by an offset to their boxes, which works only if no coordinate is negative
            shifted = found["boxes"] - found["boxes"].min()
            keep = batched_nms(shifted, found["scores"], found["labels"], self.nms_iou)[: self.per_image]
            found = {name: values[keep] for name, values in found.items()}
        if not self.clip_first:
            found["boxes"] = clip_boxes_to_image(found["boxes"], size)
            seen = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(dim=1)  # drop those that lie in the padding
            found = {name: values[seen] for name, values in found.items()}
        return found


def class_scores(
    logits: Float[Tensor, "*points C"], quality: Float[Tensor, "*points"] | None
) -> Float[Tensor, "*points C"]:
    """sqrt(sigmoid(logit) * sigmoid(quality)), or sigmoid(logit) if the predictions have no quality."""
    scores = logits.sigmoid()
    return scores if quality is None else (scores * quality.sigmoid()[..., None]).sqrt()
