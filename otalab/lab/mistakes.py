"""Outcomes of every gt and every detection: found, confused, poorly placed, missed, or nothing but background."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import box_iou

from otalab.boxes import box_area, intersection

FOUND_IOU, NEAR_IOU = 0.5, 0.1  # least IoU of a detection that is well placed, and of one that is near


@dataclass(frozen=True)
class Counts:
    """Counts by kind; two objects of the same subclass can be added."""

    @property
    def total(self) -> int:
        """The sum over all kinds."""
        return sum(astuple(self))

    def __add__(self, other):
        return type(self)(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class GtCounts(Counts):
    """Outcomes of gts. Each gt counts once, under the first kind that holds."""

    found: int = 0
    """A detection of its class took it, with IoU >= 0.5, see `match`."""
    confused: int = 0
    """A wrong detection (neither found nor ignored) of another class has IoU >= 0.5 with it."""
    misplaced: int = 0
    """Poorly placed: a wrong detection of its class has 0.1 <= IoU < 0.5 with it."""
    missed: int = 0
    """None of these."""


@dataclass(frozen=True)
class DetectionCounts(Counts):
    """Outcomes of detections. Each detection counts once, under the first kind that holds."""

    found: int = 0
    """It took a gt of its class, with IoU >= 0.5."""
    ignored: int = 0
    """Half of its area or more lies in a crowd region of its class: neither right nor wrong."""
    duplicate: int = 0
    """IoU >= 0.5 with a gt of its class that a better detection took."""
    confused: int = 0
    """IoU >= 0.5 with a gt of another class."""
    misplaced: int = 0
    """Poorly placed: 0.1 <= IoU < 0.5 with a gt of its class."""
    background: int = 0
    """None of these: there is no gt for it."""

    @property
    def wrong(self) -> int:
        """Number of detections that neither found a gt nor are ignored."""
        return self.total - self.found - self.ignored


@dataclass(frozen=True)
class Mistakes:
    """Counts of gts and of detections, of one image or of several."""

    gts: GtCounts
    detections: DetectionCounts

    def __add__(self, other: "Mistakes") -> "Mistakes":
        return Mistakes(self.gts + other.gts, self.detections + other.detections)


def count_mistakes(ground_truth: dict, results: Sequence[dict], score_threshold: float) -> Mistakes:
    """Count the mistakes on a data set, considering detections with at least the score `score_threshold`.

    ground_truth, results: as `coco_metrics` takes them (`CocoDataset.ground_truth()`, `evaluate.detect`). `iscrowd`
    regions do not count as gts: see `DetectionCounts.ignored`.
    """
    return total_mistakes(mistakes_by_image(ground_truth, results, score_threshold).values())


def total_mistakes(mistakes: Iterable[Mistakes]) -> Mistakes:
    """The sum of several counts; zeros for none."""
    return sum(mistakes, start=Mistakes(GtCounts(), DetectionCounts()))


def mistakes_by_image(ground_truth: dict, results: Sequence[dict], score_threshold: float) -> dict[int, Mistakes]:
    """`count_mistakes` for each image, by image id."""
    rows = by_image(ground_truth["annotations"])
    found = by_image(row for row in results if row["score"] >= score_threshold)
    each = {}
    for image in ground_truth["images"]:
        gts, crowds = gts_and_crowds(rows[image["id"]])
        said = found[image["id"]]
        scores = torch.tensor([row["score"] for row in said], dtype=torch.float64)
        each[image["id"]] = judge(*as_tensors(said), scores, *as_tensors(gts), *as_tensors(crowds))
    return each


def worst_images(mistakes: Mapping[int, Mistakes], most: int) -> list[int]:
    """Ids of up to `most` images with the most mistakes (gts not found plus wrong detections), the worst first.

    Images without a mistake are left out. Among equals the earlier image comes first.
    """
    wrong = {i: m.gts.total - m.gts.found + m.detections.wrong for i, m in mistakes.items()}
    return sorted((i for i in wrong if wrong[i]), key=lambda i: -wrong[i])[:most]


def by_image(rows: Iterable[dict]) -> dict[int, list[dict]]:
    """Group COCO rows (annotations or results) by image id; any other id gives an empty list."""
    found = defaultdict(list)
    for row in rows:
        found[row["image_id"]].append(row)
    return found


def gts_and_crowds(annotations: Iterable[dict]) -> tuple[list[dict], list[dict]]:
    """Separate the gts among COCO's annotations from the `iscrowd` regions, which are to be ignored."""
    gts, crowds = [], []
    for row in annotations:
        (crowds if row.get("iscrowd") else gts).append(row)
    return gts, crowds


def as_tensors(rows: Sequence[dict]) -> tuple[Float[Tensor, "m 4"], Int[Tensor, " m"]]:
    """The boxes (xyxy px, float64) and the category ids of COCO rows."""
    boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float64).reshape(-1, 4)
    labels = torch.tensor([row["category_id"] for row in rows], dtype=torch.int64)
    return torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1), labels


def judge(
    boxes: Float[Tensor, "d 4"],
    labels: Int[Tensor, " d"],
    scores: Float[Tensor, " d"],
    gt_boxes: Float[Tensor, "m 4"],
    gt_labels: Int[Tensor, " m"],
    crowd_boxes: Float[Tensor, "c 4"],
    crowd_labels: Int[Tensor, " c"],
) -> Mistakes:
    """Count the mistakes on one image; boxes are xyxy px.

    Detections take gts by the rule of `match`. The kinds of mistakes are those of Bolya et al., TIDE, ECCV 2020,
    without its weights.
    """
    overlap = box_iou(boxes, gt_boxes)  # (d, m)
    same = labels[:, None] == gt_labels
    placed, near = overlap >= FOUND_IOU, (overlap >= NEAR_IOU) & (overlap < FOUND_IOU)
    gt = match(overlap * same, scores)
    hit, taken = gt >= 0, torch.zeros(len(gt_boxes), dtype=torch.bool)
    taken[gt[hit]] = True

    ignored = ~hit & in_crowd(boxes, labels, crowd_boxes, crowd_labels)
    wrong = ~hit & ~ignored
    there = wrong[:, None]
    gts = first_that_holds(taken, (placed & ~same & there).any(dim=0), (near & same & there).any(dim=0))
    near_one = (placed & same).any(dim=1), (placed & ~same).any(dim=1), (near & same).any(dim=1)
    detections = first_that_holds(hit, ignored, *near_one)
    return Mistakes(GtCounts(*gts), DetectionCounts(*detections))


def match(overlap: Float[Tensor, "d m"], scores: Float[Tensor, " d"], iou: float = FOUND_IOU) -> Int[Tensor, " d"]:
    """The gt that each detection takes, or -1; the caller sets `overlap` (IoU) to 0 where classes differ.

    Detections choose in order of score, the highest first. Each takes the free gt with which its IoU is largest, if
    that is at least `iou`. This is COCO's rule at one IoU threshold.
    """
    free, found = overlap.clone(), torch.full((len(scores),), -1)
    order = scores.argsort(descending=True, stable=True)
    for i in order[(overlap >= iou).any(dim=1)[order]].tolist():  # the others, most of them, can take no gt
        value, gt = free[i].max(dim=0)
        if value >= iou:
            found[i] = gt
            free[:, gt] = 0
    return found


def in_crowd(
    boxes: Float[Tensor, "d 4"],
    labels: Int[Tensor, " d"],
    crowd_boxes: Float[Tensor, "c 4"],
    crowd_labels: Int[Tensor, " c"],
) -> Bool[Tensor, " d"]:
    """Which detections have half of their area or more in one crowd region of their class, which is COCO's measure."""
    inside = intersection(boxes, crowd_boxes) >= FOUND_IOU * box_area(boxes)[:, None]  # (d, c)
    return (inside & (labels[:, None] == crowd_labels)).any(dim=1)


def first_that_holds(*kinds: Bool[Tensor, " n"]) -> Iterator[int]:
    """Yield for each kind how many fall under it and under none before it; last, how many fall under none."""
    left = torch.ones_like(kinds[0])
    for kind in kinds:
        yield int((kind & left).sum())
        left &= ~kind
    yield int(left.sum())
