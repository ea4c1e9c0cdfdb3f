"""The batches of a run: a pure function of its settings and the step, so that it can go on from any step.

An image is drawn with a seed of its own. How many processes load or learn changes neither order nor augmentation.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from otalab.data.coco import CocoDataset, collate
from otalab.data.transforms import resized
from otalab.detect.config import TrainConfig
from otalab.detect.distributed import num_processes, rank

WINDOW = 32  # batches, among whose images those of like shape are put together


class Key(NamedTuple):
    """An image of the data set, and the seed of its augmentation."""

    index: int
    seed: int


class Drawn(Dataset):
    """A data set whose items are asked for by `Key`: augmentation is drawn from the seed of the key alone."""

    def __init__(self, dataset: CocoDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, dict]:
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms draw from the CPU's generator
            torch.default_generator.manual_seed(key.seed)
            return self.dataset[key.index]


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """How many whole batches there are; images left over have no part in the epoch. A smaller set is one batch."""
    return num_images // batch_size or 1


def epoch_keys(shapes: Sequence[tuple[int, int]], config: TrainConfig, epoch: int) -> list[list[Key]]:
    """The batches of an epoch. With `config.group`, images of like shape share one, so that they pad each other little.

    shapes: height and width of each image in training, px. Images are grouped within `WINDOW` batches of the shuffled
    set, and the batches shuffled: who shares a batch changes from epoch to epoch.
    """
    generator = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
    seeds = torch.randint(2**62, (len(shapes),), generator=generator).tolist()
    size = min(config.batch_size, len(shapes))
    number = steps_per_epoch(len(shapes), size)
    order = torch.randperm(len(shapes), generator=generator).tolist()[: number * size]
    if config.group:
        windows = (order[i : i + WINDOW * size] for i in range(0, len(order), WINDOW * size))
        order = [index for window in windows for index in sorted(window, key=lambda i: shapes[i])]
    batches = [[Key(i, seeds[i]) for i in order[n * size : (n + 1) * size]] for n in range(number)]
    return [batches[n] for n in torch.randperm(number, generator=generator).tolist()]


def keys_of_this_process(
    shapes: Sequence[tuple[int, int]], config: TrainConfig, first_step: int, total: int
) -> Iterator[list[Key]]:
    """From `first_step` to `total`, what this process loads: a list for each of a step's `config.accumulate` parts."""
    each = steps_per_epoch(len(shapes), config.batch_size)
    epochs = (epoch_keys(shapes, config, epoch) for epoch in count(first_step // each))
    steps = (batch for epoch in epochs for batch in epoch)
    for batch in islice(steps, first_step % each, first_step % each + total - first_step):
        mine = batch[rank() :: num_processes()]
        for part in range(config.accumulate):
            yield mine[part :: config.accumulate]


def load_batches(dataset: CocoDataset, config: TrainConfig, first_step: int, total: int) -> Iterable:
    """A loader of this process's batches, `config.accumulate` a step, from `first_step` (from 0) to `total`."""
    shapes = [resized(*size, config.size, config.longest) for size in dataset.sizes.tolist()]
    return DataLoader(
        Drawn(dataset),
        batch_sampler=keys_of_this_process(shapes, config, first_step, total),
        num_workers=config.workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )
