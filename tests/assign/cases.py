"""Images, ground truth and predictions of every kind an assigner meets, from a seed."""

from dataclasses import dataclass

import torch

from otalab.assign import AnchorPoints, Predictions, Targets

STAGES = ("initial", "early", "middle", "late", "equal")
SCENES = ("normal", "crowd", "tiny", "huge", "border", "duplicates", "outside", "on the grid")

KINDS = [(STAGES[(i + i // 8) % 5], SCENES[i % 8]) for i in range(16)]  # every scene at two stages, every stage


@dataclass(frozen=True)
class Case:
    """What an assigner is called with."""

    points: AnchorPoints
    predictions: Predictions
    targets: Targets

    def __iter__(self):
        return iter((self.points, self.predictions, self.targets))

    def arrays(self) -> tuple:
        """The arguments of reference.official."""
        points, predictions, targets = self
        seen = (points.xy, points.stride, predictions.logits, predictions.boxes, targets.boxes, targets.labels)
        return tuple(tensor.numpy() for tensor in seen)

    def to(self, dtype: torch.dtype) -> "Case":
        """The same case with predictions and gts rounded to another dtype."""
        points, predictions, targets = self
        return Case(
            points.to(dtype=torch.float32 if dtype.itemsize < 4 else dtype),
            Predictions(predictions.logits.to(dtype), predictions.boxes.to(dtype)),
            Targets(targets.boxes.to(dtype), targets.labels),
        )


def make_case(
    seed: int = 0,
    size: tuple[int, int] = (128, 160),
    num_gt: int = 6,
    num_classes: int = 4,
    stage: str = "middle",
    scene: str = "normal",
    offset: float = 0.5,
    dtype: torch.dtype = torch.float64,
    strides: tuple[int, ...] = (8, 16, 32, 64, 128),
) -> Case:
    """A case of the given kind; equal arguments give equal cases."""
    generator = torch.Generator().manual_seed(seed)
    points = AnchorPoints.for_image(size, strides, offset, dtype=torch.float64)
    boxes = gt_boxes(generator, size, num_gt, scene)
    labels = torch.randint(num_classes, (num_gt,), generator=generator)
    if scene == "duplicates":
        labels[1::2] = labels[: 2 * (num_gt // 2) : 2]
    targets = Targets(boxes, labels)
    return Case(points, predict(generator, points, targets, num_classes, stage), targets).to(dtype)


def gt_boxes(generator: torch.Generator, size: tuple[int, int], num_gt: int, scene: str) -> torch.Tensor:
    """(m, 4) float64 boxes of the scene in an image of `size` (height, width)."""
    extent = torch.tensor([size[1], size[0]], dtype=torch.float64)
    centre = uniform(generator, num_gt, 2) * extent
    side = 60 * (0.7 * normal(generator, num_gt, 2)).exp()
    if scene == "crowd":
        centre = (0.2 + 0.6 * uniform(generator, 1, 2)) * extent + 25 * normal(generator, num_gt, 2)
        side = 40 + 20 * uniform(generator, num_gt, 2)
    elif scene == "tiny":
        side = 0.3 + 7 * uniform(generator, num_gt, 2)
    elif scene == "huge":
        centre = extent / 2 + 10 * normal(generator, num_gt, 2)
        side = (0.6 + 0.6 * uniform(generator, num_gt, 2)) * extent
    elif scene == "outside":
        centre = 1.6 * centre - 0.3 * extent
    boxes = torch.cat((centre - side / 2, centre + side / 2), dim=1)
    if scene == "border":
        boxes = torch.minimum(boxes.clamp(min=0), extent.repeat(2))
        boxes[::2, 0] = 0
    elif scene == "duplicates":
        boxes[1::2] = boxes[: 2 * (num_gt // 2) : 2]
    elif scene == "on the grid":
        boxes = (boxes / 8).round() * 8
    return boxes


def predict(
    generator: torch.Generator, points: AnchorPoints, targets: Targets, num_classes: int, stage: str
) -> Predictions:
    """Predictions of a detector that knows nothing (`initial`, `early`) .. that is never wrong (`equal`)."""
    n, stride = len(points), points.stride[:, None]
    reach = torch.relu(normal(generator, n, 4)) * stride
    logits = -4.6 + 0.3 * normal(generator, n, num_classes)
    if stage == "initial":  # all class scores alike and boxes of next to no area: ties everywhere
        reach, logits = 0.02 * reach, torch.full_like(logits, -4.595)
    boxes = torch.cat((points.xy - reach[:, :2], points.xy + reach[:, 2:]), dim=1)
    if len(targets) == 0 or stage in ("initial", "early"):
        return Predictions(logits, boxes)
    extent = targets.boxes[:, 2:] - targets.boxes[:, :2]
    middle = targets.boxes[:, :2] + extent / 2
    distance = (points.xy[:, None] - middle).norm(dim=2) / (extent.norm(dim=1) + 1e-9)
    owner = distance.argmin(dim=1)  # the gt that the point has learnt
    noise, confidence = {"middle": (0.15, 2.0), "late": (0.004, 6.0), "equal": (0.0, 7.0)}[stage]
    learnt = targets.boxes[owner] + noise * extent[owner].repeat(1, 2) * normal(generator, n, 4)
    boxes = torch.where(distance.amin(dim=1, keepdim=True) < 0.5, learnt, boxes)
    logits = -4 + 1.5 * normal(generator, n, num_classes)
    logits[torch.arange(n), targets.labels[owner]] += confidence * (0.5 + uniform(generator, n))
    return Predictions(logits, boxes)


def uniform(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
