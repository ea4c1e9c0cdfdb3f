"""The detector in a training loop made for torchvision's detectors, no line of which knows the model.

`train_one_epoch` and `evaluate` take the steps that torchvision's reference scripts for detection take with a model.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_convert

from otalab.data import CLASS_NAMES, ShapesConfig, draw_scene
from otalab.detect import build_detector
from otalab.detect.evaluate import coco_metrics

NUM_CLASSES = 1 + len(CLASS_NAMES)  # torchvision keeps label 0 for the background; ours then learns that nothing is a 0
SIZE = 64  # px
EPOCHS = 40


class Scenes(Dataset):
    """Drawn scenes with the targets of the reference data sets: an id that is an int, and fields for evaluation."""

    def __init__(self, count: int = 4) -> None:
        config = ShapesConfig(image_size=SIZE, max_objects=3, min_size=20.0, max_size=32.0, crowd=0.0)
        self.scenes = [draw_scene(config, np.random.default_rng(seed)) for seed in range(count)]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Tensor, dict]:
        scene = self.scenes[index]
        boxes = torch.from_numpy(scene.boxes)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
        target = {"boxes": boxes, "labels": torch.from_numpy(scene.labels) + 1, "image_id": index, "area": area}
        target["iscrowd"] = torch.zeros(len(boxes), dtype=torch.int64)
        return torch.from_numpy(scene.image).permute(2, 0, 1) / 255, target


def batches(batch_size: int = 2) -> DataLoader:
    """Tuples of images and of targets."""
    return DataLoader(Scenes(), batch_size, collate_fn=lambda batch: tuple(zip(*batch, strict=True)))


def train_one_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader, device: torch.device, epoch: int
) -> float:
    """One epoch, the first with a warm-up of the learning rate; the mean of the summed losses."""
    model.train()
    warmup = LinearLR(optimizer, start_factor=0.001, total_iters=min(1000, len(loader) - 1)) if epoch == 0 else None
    seen = []
    for images, targets in loader:
        images = [image.to(device) for image in images]
        targets = [{k: v.to(device) if isinstance(v, Tensor) else v for k, v in t.items()} for t in targets]
        with torch.autocast("cpu", enabled=False):  # as the reference has it where no mixed precision is asked for
            loss_dict = model(images, targets)
            losses = sum(loss for loss in loss_dict.values())
        with torch.no_grad():  # what every process of a distributed run would send to the others, by sorted names
            together = torch.stack([loss_dict[name] for name in sorted(loss_dict)], dim=0)
        seen.append(together.sum().item())
        assert math.isfinite(seen[-1])
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
        if warmup is not None:
            warmup.step()
    return sum(seen) / len(seen)


@torch.inference_mode()
def evaluate(model: nn.Module, loader: DataLoader, device: torch.device) -> dict[str, float]:
    """COCO's metrics, from {image id: detections} of each batch; labels are the category ids."""
    model.eval()
    annotations, results = [], []
    for images, targets in loader:
        outputs = model([image.to(device) for image in images])
        outputs = [{name: value.to("cpu") for name, value in output.items()} for output in outputs]
        for image, output in {t["image_id"]: o for t, o in zip(targets, outputs, strict=True)}.items():
            boxes = box_convert(output["boxes"], "xyxy", "xywh").tolist()
            rows = zip(boxes, output["labels"].tolist(), output["scores"].tolist(), strict=True)
            results += [{"image_id": image, "category_id": c, "bbox": b, "score": s} for b, c, s in rows]
        for target in targets:
            boxes = box_convert(target["boxes"], "xyxy", "xywh").tolist()
            rows = zip(boxes, *(target[name].tolist() for name in ("labels", "area", "iscrowd")), strict=True)
            image = target["image_id"]
            annotations += [
                {"image_id": image, "category_id": c, "bbox": b, "area": a, "iscrowd": i} for b, c, a, i in rows
            ]
    truth = {
        "images": [{"id": i, "width": SIZE, "height": SIZE} for i in range(len(loader.dataset))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASS_NAMES, 1)],
        "annotations": annotations,
    }
    return coco_metrics(truth, results, "pycocotools")


def torchvisions_fcos() -> nn.Module:
    """torchvision's FCOS on three convolutions."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()]
    backbone = nn.Sequential(*layers)
    backbone.out_channels = 64
    anchors = AnchorGenerator(sizes=((8,),), aspect_ratios=((1.0,),))
    return FCOS(backbone, NUM_CLASSES, SIZE, SIZE, anchor_generator=anchors)


def ours() -> nn.Module:
    return build_detector("tiny", NUM_CLASSES, "ota")


@pytest.mark.parametrize("build", [torchvisions_fcos, ours])
def test_one_loop_trains_and_evaluates_torchvisions_detector_and_ours(build):
    torch.manual_seed(0)
    model, device, loader = build(), torch.device("cpu"), batches()
    model.to(device)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9, weight_decay=1e-4
    )
    means = [train_one_epoch(model, optimizer, loader, device, epoch) for epoch in range(EPOCHS)]
    metrics = evaluate(model, loader, device)
    assert means[-1] < 0.4 * means[0]
    assert metrics["AP50"] > 0.7  # of the scenes that it learnt
