"""From which levels the gts of each size get their points: `python -m benchmarks.levels RUN [RUN ...] --data FOLDER`.

The labels come from each run's own assigner and the trained detector's predictions on held-out images. Sizes are in px
of the images as the detector sees them.
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from otalab.boxes import box_area
from otalab.data import CocoDataset, eval_transforms
from otalab.detect.checkpoint import load_model
from otalab.detect.detector import Detector, as_targets
from otalab.detect.evaluate import open_split
from otalab.errors import InputError
from otalab.lab.gt_bins import SIZE_EDGES, SIZES


@torch.inference_mode()
def points_by_level(
    model: Detector, dataset: CocoDataset, images: int
) -> tuple[Int[Tensor, " sizes"], Int[Tensor, "sizes levels"]]:
    """Numbers of gts of each size in the first `images` images, and of the points of each level that learn them."""
    sizes, levels = len(SIZES), len(model.backbone.strides)
    gts, learnt = torch.zeros(sizes, dtype=torch.int64), torch.zeros(sizes * levels, dtype=torch.int64)
    for index in range(min(images, len(dataset))):
        image, target = dataset[index]
        targets = as_targets(target)
        points, predictions = model.predict([image])
        (found,) = model.assign(points, predictions, [targets])
        size = torch.bucketize(box_area(targets.boxes).sqrt(), torch.tensor(SIZE_EDGES), right=True)
        gts += torch.bincount(size, minlength=sizes)
        own = found.positive
        learnt += torch.bincount(size[found.matched_gt[own]] * levels + points.level[own], minlength=sizes * levels)
    return gts, learnt.view(sizes, levels)


def lines(gts: Int[Tensor, " sizes"], learnt: Int[Tensor, "sizes levels"], strides: Sequence[int]) -> list[str]:
    """Lines of a table of points per gt by level, with one row for each size that has gts."""
    rows = ["px          gts" + "".join(f"{f'stride {stride}':>12}" for stride in strides)]
    for name, count, own in zip(SIZES, gts.tolist(), learnt.tolist(), strict=True):
        if count:
            rows.append(f"{name:<11}{count:>4}" + "".join(f"{number / count:>12.2f}" for number in own))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each run."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.levels", description=__doc__.splitlines()[0])
    flags.add_argument("runs", nargs="+", metavar="RUN", help="folder of a trained run")
    flags.add_argument("--data", required=True, help="the COCO-format folder whose split val is labelled")
    flags.add_argument("--images", type=int, default=100, help="how many of its images (default: %(default)s)")
    a = flags.parse_args(argv)
    for run in a.runs:
        try:
            model, description = load_model(run)
            dataset = open_split(a.data, "val", description["class_names"])
            dataset.transforms = eval_transforms(*(model.image_size or ()))
        except InputError as error:
            flags.error(str(error))
        print(run, *lines(*points_by_level(model, dataset, a.images), model.backbone.strides), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
