"""The data of a training run: opened, looked over, and told of before the work begins."""

import numpy as np
import torch

from otalab.data.coco import CocoDataset
from otalab.data.transforms import train_transforms
from otalab.detect.config import TrainConfig
from otalab.detect.evaluate import open_split
from otalab.detect.limits import evaluation_batch, require_memory, require_steps_fit
from otalab.errors import one_line


def open_data(config: TrainConfig) -> tuple[CocoDataset, CocoDataset]:
    """The training and validation splits of the run's folder.

    Raises InputError for input at fault, and when a batch or, without workers, the images would not fit into memory.
    """
    trainset = CocoDataset.from_folder(
        config.data,
        "train",
        transforms=train_transforms(config.size, config.augment, config.max_size),
        categories=list(config.categories) if config.categories else None,
        max_images=config.max_images,
        background=config.background,
        seed=config.seed,
    )
    valset = open_split(config.data, "val", trainset.class_names)
    require_steps_fit(trainset.sizes, image_size(config), config.batch_size)
    evaluation_batch(valset.sizes, image_size(config), 1)
    if config.workers == 0:
        require_memory(np.concatenate((trainset.sizes, valset.sizes)))
    return trainset, valset


def image_size(config: TrainConfig) -> tuple[int, int] | None:
    """The (shorter, longer) side in px that images are resized to; without `max_size` the longer is bounded too."""
    return None if config.size is None else (config.size, config.max_size or 10 * config.size)


def opening(config: TrainConfig, trainset: CocoDataset, valset: CocoDataset, device: torch.device) -> list[str]:
    """Lines of text: what the run will see, what is left out of it and why, and on what it runs."""
    lines = []
    for split, dataset in (("train", trainset), ("val", valset)):
        lines += [f"{split}: {line}" for line in dataset.account(config.size, config.max_size)]
    threads, loaders = torch.get_num_threads(), f"{config.workers} loader processes"
    lines.append(f"device {device}, {threads} threads, {loaders}, seed {config.seed}")
    return [one_line(line) for line in lines]
