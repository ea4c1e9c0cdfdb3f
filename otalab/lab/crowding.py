"""What crowding costs a detector: gts by their largest overlap with another gt, and how well each kind is found."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from otalab.boxes import iou
from otalab.lab.gt_bins import GtBin, gt_bins

BINS = ("0", "0 to 0.2", "0.2 to 0.5", "0.5 or more")  # of crowding: its least value belongs to a bin
EDGES = (np.nextafter(0, 1), 0.2, 0.5)


def crowding(boxes: Float[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """The largest IoU of each box, xyxy px, with another; 0 for one alone."""
    overlap = iou(boxes[:, None], boxes).fill_diagonal_(0)
    return torch.cat((overlap, overlap.new_zeros(len(boxes), 1)), dim=1).amax(dim=1)


def crowding_bins(ground_truth: dict, results: Sequence[dict], backend: str | None = None) -> list[GtBin]:
    """Recall and AP by the crowding of gts: each one's largest IoU with another gt of its image, of any class.

    ground_truth, results, backend: as `coco_metrics` takes them; how AP is measured: `gt_bins`. `iscrowd` regions are
    no gts and crowd none.
    """
    return gt_bins(ground_truth, results, crowding, EDGES, BINS, backend)
