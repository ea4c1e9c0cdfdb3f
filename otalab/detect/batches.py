"""The batches of a run, as a pure function of its settings and the step, so that a run can resume at any step.

Each image is augmented with its own seed. So the number of processes that load or train changes neither the order of
the images nor their augmentation.
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

WINDOW = 32  # batches within which images are grouped by shape


class Key(NamedTuple):
    """The index of an image in the data set, and the seed of its augmentation."""

    index: int
    seed: int


class Drawn(Dataset):
    """A data set that is indexed by `Key`: the augmentation of an item depends only on the seed of its key."""

    def __init__(self, dataset: CocoDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, dict]:
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms draw from the CPU's generator
            torch.default_generator.manual_seed(key.seed)
            return self.dataset[key.index]


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """The number of whole batches in an epoch; left-over images are skipped. A set smaller than a batch makes one."""
    return num_images // batch_size or 1


def epoch_keys(shapes: Sequence[tuple[int, int]], config: TrainConfig, epoch: int) -> list[list[Key]]:
    """The batches of an epoch. With `config.group`, images of similar shape share a batch, which needs less padding.

    shapes: height and width of each image in training, px

    Images are grouped within windows of `WINDOW` batches of the shuffled set, and the batches are shuffled afterwards.
    So the images that share a batch change from epoch to epoch.
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
    """Yield what this process loads in steps `first_step` to `total - 1`, counted from 0.

    Each step yields `config.accumulate` lists of keys, one for each part of the step.
    """
    each = steps_per_epoch(len(shapes), config.batch_size)
    epochs = (epoch_keys(shapes, config, epoch) for epoch in count(first_step // each))
    steps = (batch for epoch in epochs for batch in epoch)
    for batch in islice(steps, first_step % each, first_step % each + total - first_step):
        mine = batch[rank() :: num_processes()]
        for part in range(config.accumulate):
            yield mine[part :: config.accumulate]


def load_batches(dataset: CocoDataset, config: TrainConfig, first_step: int, total: int) -> Iterable:
    """A loader of this process's batches, see `keys_of_this_process`: `config.accumulate` batches per step."""
    shapes = [resized(*size, config.size, config.longest) for size in dataset.sizes.tolist()]
    return DataLoader(
        Drawn(dataset),
        batch_sampler=keys_of_this_process(shapes, config, first_step, total),
        num_workers=config.workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )
