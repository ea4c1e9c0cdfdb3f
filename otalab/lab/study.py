"""Does assignment matter? Train detectors that differ in nothing but the assigner, and say what a difference is worth.

runs = study("data/shapes", "runs/study", ["ota", "fcos"], seeds=range(5), epochs=4)
print(paired_difference(values(runs, "ota"), values(runs, "fcos")))
"""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torchvision.ops import box_iou

from otalab.data.coco import CocoDataset
from otalab.detect.checkpoint import load_model
from otalab.detect.config import TrainConfig
from otalab.detect.evaluate import coco_metrics, detect, open_split
from otalab.detect.train import train
from otalab.errors import InputError
from otalab.lab.mistakes import as_tensors, by_image
from otalab.progress import progress_bar

CROWDED = 0.3  # IoU from which two gts of an image count as a crowd
SPLITS = ("all", "crowded", "apart")


@dataclass(frozen=True)
class Run:
    """One trained detector: COCO's AP in 0..1 on all held-out images, on the crowded ones and on the others."""

    assigner: str
    seed: int
    ap: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """A mean difference and its confidence interval, in the unit of what was compared."""

    mean: float
    low: float
    high: float

    @property
    def separated(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def study(
    data: str | Path,
    out: str | Path,
    assigners: Sequence[str],
    seeds: Sequence[int],
    processes: int = 1,
    progress: bool = True,
    **settings,
) -> list[Run]:
    """Train every assigner with every seed on a folder with train and val splits; `settings` are TrainConfig's.

    Detectors of one seed share initial weights, order of images and augmentation. Each lands in `out`/ASSIGNER-SEED; a
    study that was stopped goes on where it was. `processes` train side by side, with an equal share of the threads
    each. Raises InputError for input at fault, an `out` of other settings included.
    """
    if not assigners or not seeds or processes < 1:
        raise InputError(
            f"a study needs assigners, seeds and a process, not {list(assigners)}, {list(seeds)}, {processes}"
        )
    configs = [
        TrainConfig(str(data), f"{out}/{name.replace(':', '-')}-{seed}", assigner=name, seed=seed, **settings)
        for seed in seeds
        for name in assigners
    ]
    train_one = partial(trained, threads=max(1, (os.cpu_count() or 1) // processes))
    bar = partial(progress_bar, total=len(configs), unit="run", desc="study", disable=not progress)
    if processes == 1:
        return list(bar(map(train_one, configs)))
    spawn = multiprocessing.get_context("spawn")  # a forked PyTorch may hang
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        return list(bar(pool.map(train_one, configs)))


def trained(config: TrainConfig, threads: int) -> Run:
    """Train and evaluate one detector, on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        train(config, resume=True, progress=False)
        model, description = load_model(config.out)
        heldout = open_split(config.data, "val", description["class_names"])
        results = detect(model, heldout, config.batch_size, progress=False)
        return Run(config.assigner, config.seed, ap_by_crowding(heldout, results))
    finally:
        torch.set_num_threads(before)


def ap_by_crowding(heldout: CocoDataset, results: Sequence[dict]) -> dict[str, float]:
    """AP on all images, on the crowded and on the others; NaN without such images. `results` as `detect` gives them."""
    truth, crowded = heldout.ground_truth(), crowded_images(heldout)
    chosen = {"all": set(heldout.image_ids), "crowded": crowded, "apart": set(heldout.image_ids) - crowded}
    ap = {}
    for split, ids in chosen.items():
        images = [image for image in truth["images"] if image["id"] in ids]
        gts, found = ([row for row in rows if row["image_id"] in ids] for rows in (truth["annotations"], results))
        ap[split] = coco_metrics({**truth, "images": images, "annotations": gts}, found)["AP"] if gts else float("nan")
    return ap


def crowded_images(dataset: CocoDataset, iou: float = CROWDED) -> set[int]:
    """Ids of the images in which two gts overlap by at least `iou`."""
    rows = by_image(gt for gt in dataset.ground_truth()["annotations"] if not gt["iscrowd"])
    boxes = {image: as_tensors(gts)[0] for image, gts in rows.items()}
    return {image for image, b in boxes.items() if box_iou(b, b).triu(diagonal=1).ge(iou).any()}


def assigners_of(runs: Sequence[Run]) -> list[str]:
    """The assigners of a study, in the order in which they appear."""
    return list(dict.fromkeys(run.assigner for run in runs))


def values(runs: Sequence[Run], assigner: str, split: str = "all") -> np.ndarray:
    """float64 (seeds,): the AP of an assigner's runs in the order of their seeds. Raises InputError without any."""
    found = sorted((run.seed, run.ap[split]) for run in runs if run.assigner == assigner)
    if not found:
        raise InputError(f"no run of {assigner!r}; there is {', '.join(assigners_of(runs))}")
    return np.array([ap for _, ap in found])


def interval(sample: Sequence[float] | np.ndarray, level: float = 0.95) -> Difference:
    """Mean of independent values and its confidence interval by Student's t. Raises InputError for fewer than two."""
    if len(sample) < 2:
        raise InputError(f"an interval needs at least two values, got {len(sample)}")
    mean, spread = float(np.mean(sample)), float(np.std(sample, ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, df=len(sample) - 1)) * spread / len(sample) ** 0.5
    return Difference(mean, mean - half, mean + half)


def paired_difference(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, level: float = 0.95
) -> Difference:
    """How much larger `a` is than `b`, value by value (of equal seeds): mean and interval.

    What a seed does to both cancels, so the interval is often narrower than those of `a` and `b`. Raises InputError
    for unequal numbers of values, and for fewer than two.
    """
    if len(a) != len(b):
        raise InputError(f"pairs need equal numbers of values, got {len(a)} and {len(b)}")
    return interval(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), level)
