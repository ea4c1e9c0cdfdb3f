"""The FCOS-style detector, with the interface of torchvision's detectors."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import clip_boxes_to_image

from otalab.assign import AnchorPoints, Assigner, Assignment, Predictions, Targets, build_assigner
from otalab.assign.base import require_finite
from otalab.boxes import around
from otalab.checks import require, require_known
from otalab.detect.backbone import PyramidBackbone
from otalab.detect.device import full_precision
from otalab.detect.guided import GuidedHead
from otalab.detect.head import Head
from otalab.detect.limits import resized
from otalab.detect.losses import at_least_one, count_positives, detection_losses
from otalab.detect.meta import MetaHead
from otalab.detect.padding import RealCells, real_cells
from otalab.detect.style import STYLES, Style
from otalab.errors import InputError

HEADS = {"points": Head, "guided": GuidedHead, "meta": MetaHead}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as torchvision's backbones expect


class Detector(nn.Module):
    """Backbone, FPN, head and an assigner; see `build_detector`.

    In training, `model(images, targets)` returns a dict of losses. In evaluation, `model(images)` returns one dict per
    image: {"boxes" (d, 4) xyxy px of the image as given, "labels" (d,), "scores" (d,)}. Images are a list of float
    (3, H, W) in 0..1, of any sizes. Targets are dicts with "boxes" (m, 4) xyxy px, "labels" (m,) int64 in 0..C-1 and
    optionally "ignore_boxes" (c, 4).

    Images of a batch are padded to one size. The padding does not change an image's predictions, and points in it
    neither detect nor count as background (see `otalab.detect.padding`). Some assigners, for example `max-iou`, do
    look at these points, and may make one a positive.

    image_size: in evaluation, images are resized to this (shorter side, limit of the longer side) in px; None keeps
        their size. In training, images are used as the data set gives them
    balance: with 0 all positives of an image count equally in the losses, as in the paper; with 1 all of its gts do,
        see `Assignment.balanced`. It has no effect on losses that an assigner defines itself
    quality: False leaves the IoU branch out of losses and scores
    style: the conventions of a family of detectors
    """

    def __init__(
        self,
        backbone: PyramidBackbone,
        head: Head,
        assigner: Assigner,
        image_size: Sequence[int] | None = None,
        balance: float = 0.0,
        style: Style = STYLES["otalab"],
        quality: bool = True,
    ) -> None:
        super().__init__()
        require("be in 0..1", balance=balance)
        self.backbone, self.head, self.assigner = backbone, head, assigner
        self.balance, self.style = balance, style
        self.quality = quality
        self.postprocess = style.postprocess
        self.num_classes = head.num_classes
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    @property
    def trains_quality(self) -> bool:
        """Whether the losses train the IoU branch, so that scores may use it."""
        return self.quality and self.assigner.trains_quality

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        if self.training:
            if targets is None:
                raise InputError("in training the model needs targets: model(images, targets)")
            points, predictions = self.predict(images)
            truth = [as_targets(t) for t in targets]
            with full_precision(points.xy.device):  # labels and losses are never computed in half precision
                each, predictions, assignments = self.label(points, predictions, truth, images)
                assignments = [a.balanced(self.balance) for a in assignments]
                losses = detection_losses(predictions, truth, assignments)
                own = self.head.own_losses(each, predictions, truth)
                normaliser = at_least_one(count_positives(assignments)) if own else 1
                return losses | {name: loss / normaliser.to(loss) for name, loss in own.items()}
        require_images(images)
        seen = [self.resize(image) for image in images]
        points, predictions = self.predict(seen)
        padding = self.in_padding(points, seen)
        detections = []
        for image, small, prediction, beyond in zip(images, seen, predictions, padding, strict=True):
            require_finite("logits", prediction.logits)  # a score threshold would drop a NaN silently
            require_finite("predicted boxes", prediction.boxes)
            prediction = replace(prediction, logits=prediction.logits.masked_fill(beyond[:, None], -torch.inf))
            found = self.postprocess(points, prediction, small.shape[-2:])
            ratio = torch.tensor(image.shape[-2:]).flip(0) / torch.tensor(small.shape[-2:]).flip(0)  # (x, y)
            boxes = found["boxes"] * ratio.repeat(2).to(found["boxes"])
            found["boxes"] = clip_boxes_to_image(boxes, image.shape[-2:])  # rounding may exceed the image
            detections.append(found)
        return detections

    def predict(self, images: list[Tensor]) -> tuple[AnchorPoints, list[Predictions]]:
        """Pad images to one size; returns the anchor points that they share, and the dense predictions of each.

        Predictions have a quality only if the losses train it.
        """
        batch = self.batch(images)
        sizes = [self.style.padded(image.shape[-2:]) for image in images]
        with real_cells(RealCells(sizes, tuple(batch.shape[-2:]), batch.device)):
            features = self.backbone(batch)
            logits, sides, quality, *own = self.head(features)
        maps = [tuple(f.shape[-2:]) for f in features]
        strides = self.backbone.strides
        points = self.head.points(AnchorPoints.for_feature_maps(maps, strides, self.style.offset, batch.device))
        boxes = [around(self.style.origins(points, strides, z), s) for z, s in zip(sizes, sides, strict=True)]
        wide = torch.promote_types(logits.dtype, torch.float32)  # autocast may have made them half precision
        if own:  # a head with anchor boxes adds their half width and half height, and possibly their location
            own[0] = around(points.xy, own[0].repeat(1, 1, 2))
        quality = quality.to(wide) if self.trains_quality else [None] * len(images)
        parts = zip(logits.to(wide), boxes, quality, *own, strict=True)
        return points, [Predictions(*image) for image in parts]

    def label(
        self, points: AnchorPoints, predictions: list[Predictions], targets: list[Targets], images: list[Tensor]
    ) -> tuple[list[AnchorPoints], list[Predictions], list[Assignment]]:
        """Assign to each image of a batch the labels that it would get alone, whatever pads it.

        Returns the points and predictions of each image that the labels are for. In a padded batch these are its own
        points, assigned image by image. A local assigner needs only the points in gts, so it assigns the whole batch at
        once, unless a gt reaches into the padding. The points in the padding are then ignored.
        """
        padding = self.in_padding(points, images)
        padded = len({image.shape[-2:] for image in images}) > 1
        local = self.assigner.local and self.style.offset > 0  # at 0 a gt's nearest point can lie on the image's edge
        if padded and not (local and lie_inside(targets, images)):
            each = [points.at(~beyond) for beyond in padding]
            predictions = [p.at(~beyond) for p, beyond in zip(predictions, padding, strict=True)]
            parts = zip(each, predictions, targets, strict=True)
            return each, predictions, [self.assign(own, [p], [t])[0] for own, p, t in parts]
        assignments = self.assign(points, predictions, targets)
        assignments = [a.with_ignored(beyond) for a, beyond in zip(assignments, padding, strict=True)]
        return [points] * len(images), predictions, assignments

    def assign(self, points: AnchorPoints, predictions: list[Predictions], targets: list[Targets]) -> list[Assignment]:
        """Assign labels to a batch. This is a method of its own so that a lesson can inspect or replace it."""
        return self.assigner.assign_batch(points, predictions, targets)

    def batch(self, images: list[Tensor]) -> Float[Tensor, "b 3 H W"]:
        """Normalise images and pad them, right and below, to the largest sides, rounded up as the style asks."""
        require_images(images)
        height, width = self.style.padded([max(image.shape[side] for image in images) for side in (1, 2)])
        batch = self.mean.new_zeros(len(images), 3, height, width)  # the detector's dtype, not the images'
        for slot, image in zip(batch, images, strict=True):
            slot[:, : image.shape[-2], : image.shape[-1]] = (image - self.mean) / self.std
        return batch

    def resize(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h2 w2"]:
        """Resize an image as evaluation does, to `image_size`."""
        antialias = self.style.antialias
        rounding = np.rint if antialias else np.floor
        (size,) = resized(np.array([image.shape[-2:]]), self.image_size, rounding).tolist()
        if size == list(image.shape[-2:]):
            return image
        return F.interpolate(image[None], size=size, mode="bilinear", antialias=antialias)[0].clamp(0, 1)

    def in_padding(self, points: AnchorPoints, images: Sequence[Tensor]) -> Bool[Tensor, "b n"]:
        """Mask of each image's points in padding: those whose cells begin beyond the image as the style pads it."""
        sizes = [self.style.padded(image.shape[-2:]) for image in images]
        sizes = torch.tensor(sizes, device=points.xy.device).flip(1)  # (b, 2), x first
        corners = points.xy - points.stride[:, None] * self.style.offset  # (n, 2)
        return (corners >= sizes[:, None]).any(dim=2)


def require_images(images: list[Tensor]) -> None:
    """Raise InputError unless there are images, each (3, H, W), not empty and of a float dtype."""
    if len(images) == 0:
        raise InputError("a batch needs at least one image")
    for image in images:
        if image.ndim != 3 or len(image) != 3 or 0 in image.shape or not image.is_floating_point():
            shape, dtype = tuple(image.shape), str(image.dtype).removeprefix("torch.")
            raise InputError(f"an image must be float (3, H, W) in 0..1, not {dtype} {shape}")


def lie_inside(targets: Sequence[Targets], images: Sequence[Tensor]) -> bool:
    """Whether no gt reaches beyond its image on the right or below, where padding is."""
    ends = [t.boxes[:, 2:] - t.boxes.new_tensor(image.shape[:-3:-1]) for t, image in zip(targets, images, strict=True)]
    return bool((torch.cat(ends) <= 0).all())


def as_targets(target: dict[str, Tensor]) -> Targets:
    """Convert a target dict of torchvision's convention to `Targets`. Raises InputError without boxes or labels."""
    if missing := [name for name in ("boxes", "labels") if name not in target]:
        raise InputError(f"a target needs boxes and labels; {' and '.join(missing)} missing, given {list(target)}")
    return Targets(target["boxes"], target["labels"], target.get("ignore_boxes"))


def build_detector(
    backbone: str = "tiny",
    num_classes: int = 80,
    assigner: str = "ota",
    weights_backbone: str | None = None,
    channels: int | None = None,
    num_convs: int | None = None,
    image_size: Sequence[int] | None = None,
    balance: float = 0.0,
    load_weights: bool = True,
    style: str = "otalab",
    anchors: str = "points",
    quality: bool = True,
) -> Detector:
    """Build an FCOS-style detector.

    Assigner and balance default to the paper's; the defaults of `TrainConfig` did better in short runs.

    backbone:         "tiny", or torchvision's "mobilenet_v2", "resnet18", "resnet50", "resnet101", "resnext101_64x4d"
    weights_backbone: torchvision's weights entry for it, for example "DEFAULT"; torchvision downloads it if needed
    channels, num_convs: width of FPN and head, and convolutions per tower. The defaults are 48 and 2 for `tiny`, 128
                      and 2 for `mobilenet_v2`, and 256 and 4 (the paper) for the ResNets. GroupNorm needs channels in
                      multiples of 4 up to 128, and of 32 beyond
    image_size:       (shorter, longer) side in px for evaluation, see `Detector`
    balance:          what counts equally in the losses: positives (0) or gts (1), see `Detector`
    load_weights:     False builds the modules that `weights_backbone` implies but fetches no weights, for a checkpoint
                      to fill
    style:            "otalab", or the conventions of detectors that weights may come from: "torchvision" or "cvpods"
    anchors:          "points", or "guided" or "meta": the detector has its own anchor boxes, for the assigner max-iou
    quality:          whether losses and scores use the IoU branch

    Raises InputError for an unknown name, a number out of range, and weights that cannot be loaded.
    """
    require("be a whole number of at least 1", num_classes=num_classes)
    if image_size is not None and not 1 <= image_size[0] <= image_size[1]:
        raise InputError(f"image_size must be the shorter and the longest side in px, not {image_size}")
    require_known(STYLES, style=style)
    if anchors not in HEADS:
        raise InputError(f"anchors {anchors!r} are none of {', '.join(HEADS)}")
    ways = STYLES[style]
    default = {"tiny": (48, 2), "mobilenet_v2": (128, 2)}.get(backbone, (256, 4))
    width = default[0] if channels is None else channels
    depth = default[1] if num_convs is None else num_convs
    require("be a whole number of at least 1", channels=width)
    require("not be negative", num_convs=depth)
    pyramid = PyramidBackbone(backbone, weights_backbone, width, load_weights, ways.early_stride)
    head = HEADS[anchors](width, num_classes, depth, pyramid.strides, ways.tower_bias)
    labels = build_assigner(assigner).for_classes(num_classes)
    return Detector(pyramid, head, labels, image_size, balance, ways, quality)
