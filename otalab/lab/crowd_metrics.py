"""CrowdHuman's metrics for detection in crowds: average precision, log-average miss rate and Jaccard index."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from otalab.boxes import box_area, intersection, iou
from otalab.lab.mistakes import FOUND_IOU, as_tensors, by_image, gts_and_crowds, match

NAMES = ("AP", "MR-2", "JI")
FPPI = (0.01, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0)  # false positives per image, as published
THRESHOLDS = tuple(i / 10 for i in range(10))  # score thresholds of the Jaccard index
_ABOVE = float(np.nextafter(FOUND_IOU, 1))  # AP and the miss rate need IoU > 0.5, the Jaccard index IoU >= 0.5


class Picture(NamedTuple):
    """One class in one image: boxes xyxy px, float64, clipped to the image."""

    gts: Float[Tensor, "m 4"]
    ignored: Float[Tensor, "c 4"]
    """Regions to ignore."""
    boxes: Float[Tensor, "d 4"]
    """Detections."""
    scores: Float[Tensor, " d"]


def crowd_metrics(ground_truth: dict, results: Sequence[dict]) -> dict[str, float]:
    """ "AP", "MR-2" and "JI" (each 0..1), means over the classes with a gt; then "AP/NAME" and so on for each class.

    ground_truth, results: as `coco_metrics` takes them. `iscrowd` regions are regions to ignore.

    Gts and detections are first clipped to their image, as the benchmark does. A gt without area after that is left
    out. Without any gt all three metrics are NaN. Source: Shao et al., CrowdHuman, 2018; the Jaccard index is that of
    Chu et al., CVPR 2020.
    """
    names = {row["id"]: row["name"] for row in ground_truth["categories"]}
    each = {}
    for category in names:
        pictures = pictures_of(ground_truth, results, category)
        if any(len(picture.gts) for picture in pictures):
            right, gts = judged(pictures)
            values = average_precision(right, gts), miss_rate(right, gts, len(pictures)), jaccard_index(pictures)
            each[category] = dict(zip(NAMES, values, strict=True))
    means = {name: float(np.mean([row[name] for row in each.values()])) if each else float("nan") for name in NAMES}
    return means | {f"{name}/{names[i]}": value for i, row in each.items() for name, value in row.items()}


def pictures_of(ground_truth: dict, results: Sequence[dict], category: int) -> list[Picture]:
    """One class in every image of the data set, in the order of the set."""
    annotated = by_image(row for row in ground_truth["annotations"] if row["category_id"] == category)
    found = by_image(row for row in results if row["category_id"] == category)
    pictures = []
    for image in ground_truth["images"]:
        said, size = found[image["id"]], (image["height"], image["width"])
        gts, regions = (_clipped(rows, size) for rows in gts_and_crowds(annotated[image["id"]]))
        scores = torch.tensor([row["score"] for row in said], dtype=torch.float64)
        pictures.append(Picture(gts[box_area(gts) > 0], regions, _clipped(said, size), scores))
    return pictures


def judged(pictures: Sequence[Picture]) -> tuple[Bool[np.ndarray, " d"], int]:
    """Which detections of all images are right, sorted from the highest score down, and the number of gts.

    In each image detections choose in order of score, the highest first. A detection takes the free gt that it overlaps
    most, if their IoU is above 0.5, and is then right. A detection that takes none is left out if more than half of its
    area lies in one region to ignore; otherwise it is wrong.
    """
    right, scores = [], []
    for picture in pictures:
        took = match(iou(picture.boxes[:, None], picture.gts), picture.scores, _ABOVE) >= 0
        counts = took | ~_inside(picture.boxes, picture.ignored)
        right += took[counts].tolist()
        scores += picture.scores[counts].tolist()
    order = np.argsort(-np.array(scores, dtype=np.float64), kind="stable")
    return np.array(right, dtype=bool)[order], sum(len(picture.gts) for picture in pictures)


def average_precision(right: Bool[np.ndarray, " d"], gts: int) -> float:
    """The area under the precision-recall curve, with straight lines between its points.

    right: whether each detection is right, sorted from the highest score down

    Example: three gts, and three detections that are right, wrong, right. Precision is 1, 1/2, 2/3 at recall 1/3, 1/3,
    2/3. From recall 0 to the first point the area is 1/3 * 1. The second step adds nothing. The third is 1/3 wide and
    (1/2 + 2/3) / 2 high, and adds 7/36:

    >>> round(average_precision(np.array([True, False, True]), 3), 6) == round(19 / 36, 6)
    True

    The benchmark's program starts at the first point and so loses the area before it, at most 1 / gts. For four perfect
    boxes it gives 3/4, while this function gives 1.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    heights = (precision + np.append(precision[:1], precision[:-1])) / 2
    return float(heights[right].sum() / gts)  # each right detection is a step of 1 / gts; this sum reaches 1 exactly


def miss_rate(right: Bool[np.ndarray, " d"], gts: int, images: int) -> float:
    """MR^-2: the geometric mean of the share of gts missed, at nine numbers of false positives per image (FPPI).

    At each of `FPPI` the miss rate is read at the first detection that reaches this FPPI, or at the last detection if
    none does. Without any detection it is 1. If no gt is missed at FPPI 1, the geometric mean is 0, whatever the other
    eight miss rates are.

    Example: ten images with ten gts; four detections are right, one is wrong, four are right, one is wrong. At the
    fifth detection FPPI is 0.1 and 6 of 10 gts are missed: the miss rate at 0.01, 0.0178, 0.0316, 0.0562 and 0.1. At
    the tenth FPPI is 0.2 and 2 of 10 gts are missed: the miss rate at 0.1778, and at the last three, which are never
    reached. The result is (0.6^5 * 0.2^4)^(1/9):

    >>> right = np.array([True] * 4 + [False] + [True] * 4 + [False])
    >>> round(miss_rate(right, gts=10, images=10), 4) == round((0.6**5 * 0.2**4) ** (1 / 9), 4) == 0.3682
    True
    """
    if not len(right):
        return 1.0
    missed, fppi = (gts - np.cumsum(right)) / gts, np.cumsum(~right) / images
    at = np.searchsorted(fppi, FPPI).clip(max=len(right) - 1)
    with np.errstate(divide="ignore"):  # log 0 is -inf, whose exponential is 0 again
        return float(np.exp(np.log(missed[at]).mean()))


def jaccard_index(pictures: Sequence[Picture]) -> float:
    """JI: pairs over the union of gts and detections, the mean over images, at the best of ten score thresholds.

    In each image, the detections with a score above the threshold are paired with gts at IoU >= 0.5: as many pairs as
    possible, and among these pairings the one with the largest sum of IoU. This gives k pairs. Unpaired detections and
    gts with more than half of their area in one region to ignore do not count. All others do: m gts and n detections,
    the paired ones included. JI is k / (m + n - k). The mean leaves out images with m = n = 0, and is 0 without images.

    Example: one image with gts a, b and c, of which c lies in a region to ignore. There are detections of a (score
    0.9), of b (0.3), of nothing (0.6), and one in the region (0.8). Thresholds of 0.9 / 0.6 to 0.8 / 0.3 to 0.5 / less
    give 0 / 1 / 1 / 2 pairs, m = 2 and n = 0 / 1 / 2 / 3. JI is 0, 1/2, 1/3 and 2/3, of which 2/3 is the best:

    >>> a, b, c, nothing, region = torch.tensor(
    ...     [[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9], [60, 0, 69, 9], [35, 0, 55, 20]], dtype=torch.float64)
    >>> scores = torch.tensor([0.9, 0.3, 0.6, 0.8], dtype=torch.float64)
    >>> inside = torch.tensor([36, 10, 42, 18], dtype=torch.float64)
    >>> boxes = torch.stack([a, b, nothing, inside])
    >>> jaccard_index([Picture(torch.stack([a, b, c]), region[None], boxes, scores)]) == 2 / 3
    True
    """
    shares = [[share for p in pictures if (share := _jaccard(p, threshold)) is not None] for threshold in THRESHOLDS]
    return max((float(np.mean(row)) for row in shares if row), default=0.0)


def _jaccard(picture: Picture, threshold: float) -> float | None:
    """k / (m + n - k) of one image, see `jaccard_index`; None if neither gts nor detections count."""
    boxes = picture.boxes[picture.scores > threshold]
    overlap = iou(boxes[:, None], picture.gts)
    near = overlap >= FOUND_IOU
    value = near * (1 + overlap / (1 + min(overlap.shape)))  # the sum of all IoUs weighs less than one more pair
    rows, columns = (torch.from_numpy(index) for index in linear_sum_assignment(value.numpy(), maximize=True))
    paired = near[rows, columns]
    alone, missed = torch.ones(len(boxes), dtype=torch.bool), torch.ones(len(picture.gts), dtype=torch.bool)
    alone[rows[paired]] = missed[columns[paired]] = False
    pairs = int(paired.sum())
    union = pairs + sum(
        int((left & ~_inside(some, picture.ignored)).sum()) for left, some in ((alone, boxes), (missed, picture.gts))
    )
    return pairs / union if union else None


def _clipped(rows: Sequence[dict], size: tuple[int, int]) -> Float[Tensor, "m 4"]:
    """The boxes of COCO rows, xyxy px, clipped to an image of `size` (height, width)."""
    return clip_boxes_to_image(as_tensors(rows)[0], size)


def _inside(boxes: Float[Tensor, "d 4"], regions: Float[Tensor, "c 4"]) -> Bool[Tensor, " d"]:
    """Which boxes have more than half of their area in a single one of the regions."""
    return (intersection(boxes, regions) > FOUND_IOU * box_area(boxes)[:, None]).any(dim=1)
