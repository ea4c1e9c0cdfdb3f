"""How detectors are compared in crowds: CrowdHuman's average precision, log-average miss rate and Jaccard index."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from otalab.boxes import box_area, intersection, iou
from otalab.lab.mistakes import FOUND_IOU, as_tensors, by_image, match

NAMES = ("AP", "MR-2", "JI")
FPPI = (0.01, 0.0178, 0.0316, 0.0562, 0.1, 0.1778, 0.3162, 0.5623, 1.0)  # false positives an image, as they round them
THRESHOLDS = tuple(i / 10 for i in range(10))  # of scores, for the Jaccard index
_ABOVE = float(np.nextafter(FOUND_IOU, 1))  # AP and the miss rate ask for more than 0.5, the Jaccard index for 0.5


class Picture(NamedTuple):
    """One class in one image: boxes xyxy px, float64, clipped to the image."""

    gts: Float[Tensor, "m 4"]
    ignored: Float[Tensor, "c 4"]
    """Regions to ignore."""
    boxes: Float[Tensor, "d 4"]
    """Detections."""
    scores: Float[Tensor, " d"]


def crowd_metrics(ground_truth: dict, results: Sequence[dict]) -> dict[str, float]:
    """ "AP", "MR-2" and "JI" (each 0..1): means over the classes with a gt, then "AP/NAME" and so on of each of them.

    ground_truth, results: as `coco_metrics` takes them; `iscrowd` regions are to be ignored. Gts and detections are
    clipped to their image first, as the benchmark does. A gt of which nothing is then left is ignored. Without any gt
    all are NaN. Source: Shao et al., CrowdHuman, 2018; the Jaccard index is that of Chu et al., CVPR 2020.
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
    """A `Picture` for every image of the set, in its order."""
    annotated = by_image(row for row in ground_truth["annotations"] if row["category_id"] == category)
    found = by_image(row for row in results if row["category_id"] == category)
    pictures = []
    for image in ground_truth["images"]:
        rows, said = annotated[image["id"]], found[image["id"]]
        size = image["height"], image["width"]
        gts = _clipped([row for row in rows if not row.get("iscrowd")], size)
        regions = _clipped([row for row in rows if row.get("iscrowd")], size)
        scores = torch.tensor([row["score"] for row in said], dtype=torch.float64)
        pictures.append(Picture(gts[box_area(gts) > 0], regions, _clipped(said, size), scores))
    return pictures


def judged(pictures: Sequence[Picture]) -> tuple[Bool[np.ndarray, " d"], int]:
    """Which detections of all images are right, the best score first, and how many gts there are.

    In each image the best score chooses first. It takes the free gt that it overlaps most, if by IoU > 0.5, and is
    right. One that takes none is left out if more than half of its area lies in a region to ignore; else it is wrong.
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
    """The area under precision over recall, straight lines between its points; right: best score first.

    Three gts; right, wrong, right. Precision is 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3. From recall 0 to the first point
    the area is 1/3 * 1. The next step adds nothing; the last, 1/3 wide and (1/2 + 2/3) / 2 high, adds 7/36:

    >>> round(average_precision(np.array([True, False, True]), 3), 6) == round(19 / 36, 6)
    True

    The benchmark's program begins at the first point. It loses its area, at most 1 / gts: of four perfect boxes it
    says 3/4, and here AP is 1.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    heights = (precision + np.append(precision[:1], precision[:-1])) / 2
    return float(heights[right].sum() / gts)  # each right one is a step of 1 / gts; 1 is reached exactly


def miss_rate(right: Bool[np.ndarray, " d"], gts: int, images: int) -> float:
    """MR^-2: the geometric mean of the share of gts missed, at nine numbers of false positives an image (FPPI).

    At each of `FPPI` the miss rate is that of the first detection by which so many are reached; of the last, if they
    never are. (Without any detection it is 1.) So it is 0 as soon as no gt is missed at FPPI 1, whatever the others.

    Ten images, ten gts; four right, one wrong, four right, one wrong. At the fifth detection FPPI is 0.1 and 6 of 10
    gts are missed: so it is at 0.01, 0.0178, 0.0316, 0.0562 and 0.1. At the tenth FPPI is 0.2 and 2 of 10 are missed:
    so it is at 0.1778, and, as no more are reached, at the last three. Together (0.6^5 * 0.2^4)^(1/9):

    >>> right = np.array([True] * 4 + [False] + [True] * 4 + [False])
    >>> round(miss_rate(right, gts=10, images=10), 4) == round((0.6**5 * 0.2**4) ** (1 / 9), 4) == 0.3682
    True
    """
    if not len(right):
        return 1.0
    missed, fppi = (gts - np.cumsum(right)) / gts, np.cumsum(~right) / images
    at = np.searchsorted(fppi, FPPI).clip(max=len(right) - 1)
    with np.errstate(divide="ignore"):  # log 0 is -inf, and its exponential 0 again
        return float(np.exp(np.log(missed[at]).mean()))


def jaccard_index(pictures: Sequence[Picture]) -> float:
    """JI: pairs over the union of gts and detections, the mean over images, at the best of ten score thresholds.

    Of an image, the detections with a score above the threshold and the gts are paired, as many as can be at
    IoU >= 0.5 (of these the pairs with the largest sum of IoU): k pairs. Of what is left unpaired, detections and gts
    that lie by more than half in a region to ignore do not count: m gts and n detections do. JI is k / (m + n - k).
    Images with neither are left out of the mean; where all are, JI is 0.

    One image, gts a, b and c, of which c lies in a region to ignore; detections of a (score 0.9), of b (0.3), of
    nothing (0.6), and one in the region (0.8). Thresholds of 0.9 / 0.6 to 0.8 / 0.3 to 0.5 / less leave 0 / 1 / 1 / 2
    pairs, m = 2 and n = 0 / 1 / 2 / 3: JI is 0, 1/2, 1/3 and 2/3, which is the best:

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
    """k / (m + n - k) of an image, see `jaccard_index`; None if neither gts nor detections count."""
    boxes = picture.boxes[picture.scores > threshold]
    overlap = iou(boxes[:, None], picture.gts)
    near = overlap >= FOUND_IOU
    value = near * (1 + overlap / (1 + min(overlap.shape)))  # all IoUs together weigh less than a pair
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
    """Boxes of COCO's rows, xyxy px, cut at the edges of an image of that height and width."""
    return clip_boxes_to_image(as_tensors(rows)[0], size)


def _inside(boxes: Float[Tensor, "d 4"], regions: Float[Tensor, "c 4"]) -> Bool[Tensor, " d"]:
    """Which boxes have more than half of their area in one of the regions."""
    return (intersection(boxes, regions) > FOUND_IOU * box_area(boxes)[:, None]).any(dim=1)
