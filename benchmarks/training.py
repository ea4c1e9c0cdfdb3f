"""Training steps to measure on any device: those of otalab's detector, and of torchvision's FCOS on the same images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from otalab.assign import AnchorPoints, Assigner, Assignment, Predictions, Targets, build_assigner
from otalab.detect import build_detector
from otalab.detect.layout import place
from otalab.lab.simulate import random_targets, simulate_predictions

LR = 1e-6  # low enough for random weights to stay finite
AMP = torch.bfloat16


@dataclass(frozen=True)
class Setting:
    """A backbone, its batch of images, and the number of gts per image: 7 is COCO's average."""

    backbone: str = "resnet50"
    size: tuple[int, int] = (800, 1344)
    batch: int = 8
    num_gt: int = 7
    classes: int = 80

    @property
    def images(self) -> str:
        """The network and its images, without the size of the batch."""
        height, width = self.size
        return f"{self.backbone}, images of {height}x{width} px with {self.num_gt} gts"

    def __str__(self) -> str:
        return f"{self.images}, batch {self.batch}"


@dataclass(frozen=True)
class Batch:
    """Images of noise, their targets, and the simulated predictions (as in mid-training) that labels are made from."""

    images: list[Tensor]
    targets: list[dict[str, Tensor]]
    points: AnchorPoints
    predictions: list[Predictions]
    truth: list[Targets]

    def assigned(self, assigner: Assigner) -> list[Assignment]:
        """The labels of the batch."""
        return assigner.assign_batch(self.points, self.predictions, self.truth)


def make_batch(setting: Setting, device: torch.device, strides: tuple[int, ...] = (8, 16, 32, 64, 128)) -> Batch:
    """Make a batch, which is the same on every device and for all models with the same strides."""
    generator = torch.Generator().manual_seed(0)
    points = AnchorPoints.for_image(setting.size, strides)
    images, truth, predictions = [], [], []
    for _ in range(setting.batch):
        images.append(torch.rand(3, *setting.size, generator=generator).to(device))
        seen = random_targets(setting.size, setting.num_gt, setting.classes, generator)
        said = simulate_predictions(points, seen, setting.classes, generator)
        truth.append(targets_to(seen, device))
        predictions.append(predictions_to(said, device))
    return Batch(images, as_dicts(truth), points.to(device), predictions, truth)


def noise(
    sizes: Sequence[tuple[int, int]], num_gt: int = Setting.num_gt, num_classes: int = Setting.classes
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Images of noise, of these sizes (height, width) in px, and their targets."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator) for size in sizes]
    return images, as_dicts([random_targets(size, num_gt, num_classes, generator) for size in sizes])


def as_dicts(targets: Sequence[Targets]) -> list[dict[str, Tensor]]:
    """Targets as torchvision's detectors take them."""
    return [{"boxes": t.boxes, "labels": t.labels} for t in targets]


def targets_to(targets: Targets, device: torch.device) -> Targets:
    """The same gts on the device."""
    return Targets(targets.boxes.to(device), targets.labels.to(device))


def predictions_to(predictions: Predictions, device: torch.device) -> Predictions:
    """The same predictions on the device."""
    return Predictions(*(x.to(device) for x in (predictions.logits, predictions.boxes, predictions.quality)))


def frozen_detector(setting: Setting, assigner: str = "ota") -> nn.Module:
    """otalab's detector with norms and first layers frozen, as with ImageNet's weights, but with random weights."""
    torch.manual_seed(0)
    weights = None if setting.backbone == "tiny" else "IMAGENET1K_V1"
    return build_detector(setting.backbone, setting.classes, assigner, weights, load_weights=False).train()


class OtalabStep:
    """A step of otalab's detector, to be called. `assign` makes its labels from the predictions of `Batch`.

    With the predictions of random weights every gt would want a single point, and assignment would be too easy.
    """

    def __init__(self, setting: Setting, device: torch.device) -> None:
        self.model = place(frozen_detector(setting), device)
        self.batch = make_batch(setting, device, self.model.backbone.strides)
        self.assigner = build_assigner("ota")
        self.model.assign = lambda *_: self.assign()
        self.step = step_of(self.model, self.batch.images, self.batch.targets)

    def assign(self) -> list[Assignment]:
        """The labels that the step learns; callers may replace this method."""
        return self.batch.assigned(self.assigner)

    def __call__(self) -> None:
        self.step()


def torchvision_step(setting: Setting, device: torch.device) -> Callable[[], None]:
    """A step of torchvision's FCOS, which makes its labels by a fixed rule."""
    model = torchvision_fcos(setting, device).to(memory_format=torch.channels_last)
    batch = make_batch(setting, device)
    return step_of(model, batch.images, batch.targets)


def torchvision_fcos(setting: Setting, device: torch.device) -> nn.Module:
    """torchvision's FCOS with the same backbone and frozen layers as otalab's detector, and the same thresholds.

    `fcos_resnet50_fpn` freezes norms only if it loads weights, so the model is put together from its parts here.
    """
    torch.manual_seed(0)
    name = "resnet18" if setting.backbone == "tiny" else setting.backbone
    tops = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
    trunk = resnet_fpn_backbone(
        backbone_name=name, weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3, **tops
    )
    limits = {"score_thresh": 0.05, "nms_thresh": 0.6, "topk_candidates": 1000, "detections_per_img": 100}
    model = FCOS(trunk, setting.classes, min_size=min(setting.size), max_size=max(setting.size), **limits)
    return model.to(device).train()


def step_of(model: nn.Module, images: list[Tensor], targets: list[dict], amp: bool = True) -> Callable[[], None]:
    """A training step of any model with torchvision's interface.

    It computes losses under autocast (if `amp`) and gradients, and takes a step of SGD with momentum.
    """
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=LR, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        model.train()
        with torch.autocast(images[0].device.type, AMP, enabled=amp):
            losses = model(images, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return step
