"""The data of a training run: opened, looked over, and told of before the work begins."""

import logging

import torch

from otalab.data.coco import CocoDataset
from otalab.data.transforms import train_transforms
from otalab.detect.config import TrainConfig
from otalab.detect.evaluate import open_split
from otalab.detect.limits import evaluation_batch, require_steps_fit
from otalab.errors import one_line

log = logging.getLogger(__name__)


def open_data(config: TrainConfig, device: torch.device) -> tuple[CocoDataset, CocoDataset]:
    """The training and validation splits of the run's folder.

    Warns when no box is left to learn. Raises InputError for input at fault, and for a batch that memory cannot hold.
    """
    size, longest = image_size(config) or (None, None)
    trainset = CocoDataset.from_folder(
        config.data,
        "train",
        transforms=train_transforms(size, config.augment, longest),
        categories=list(config.categories) if config.categories else None,
        max_images=config.max_images,
        background=config.background,
        seed=config.seed,
    )
    valset = open_split(config.data, "val", trainset.class_names)
    if trainset.count_usable(size, longest) == 0:
        boxes = trainset.account(size, longest)[1]
        log.warning("%s has no box to learn, the run sees background alone (%s)", trainset.annotations, boxes)
    require_steps_fit(trainset.sizes, image_size(config), config.batch_size, device)
    evaluation_batch(valset.sizes, image_size(config), 1)
    return trainset, valset


def image_size(config: TrainConfig) -> tuple[int, int] | None:
    """The (shorter, longest) side in px that images are resized to: ten times `size` where `max_size` is not given."""
    return None if config.size is None else (config.size, config.max_size or 10 * config.size)


def opening(config: TrainConfig, trainset: CocoDataset, valset: CocoDataset, device: torch.device) -> list[str]:
    """Lines of text: what the run will see, what is left out of it and why, and on what it runs."""
    images, *others = trainset.account(*(image_size(config) or (None, None)))
    if "without a box" in images.partition("left out: ")[2]:
        images += " (--background N takes N of those without)"
    return [
        *(f"train  {one_line(line)}" for line in (images, *others)),
        f"val    {valset.summary()}",
        f"device {device}, {torch.get_num_threads()} threads, {config.workers} loader processes, seed {config.seed}",
    ]
