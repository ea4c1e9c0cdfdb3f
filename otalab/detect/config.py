"""What a training run is made of; the flags of `otalab train` are made from these fields."""

import sys
from dataclasses import dataclass, field, fields

from otalab.errors import InputError

MOST_EPOCHS, MOST_BATCH, MOST_WORKERS, MOST_SIDE = 10**6, 2**16, 256, 2**14
MANY = 10**9
LARGEST = sys.float_info.max


def setting(default, help: str, low=None, high=LARGEST, choices: tuple[str, ...] | None = None):
    """A dataclass field that knows its help text, and its range or choices: numbers are bounded before their use."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """A training run, reproducible from these values alone (same machine, same number of threads).

    `otalab train --help` says what each is.
    """

    data: str = setting("data/shapes", "folder with train and val splits in COCO format")
    out: str = setting("runs/train", "folder for checkpoints, log and results")
    # model
    backbone: str = setting("tiny", "feature extractor", choices=("tiny", "mobilenet_v2", "resnet18", "resnet50"))
    weights_backbone: str | None = setting(None, "torchvision's weights entry for the backbone, e.g. DEFAULT")
    assigner: str = setting("ota", "label assignment: ota, fcos, atss, simota, ... or with options, ota:q=10")
    # data
    categories: tuple[str, ...] | None = setting(None, "train on these category names only")
    max_images: int | None = setting(None, "use at most so many training images, chosen by the seed", 1, MANY)
    background: int = setting(0, "how many training images without a box take part, chosen by the seed", 0, MANY)
    size: int | None = setting(None, "shorter image side in px; none keeps the images' size", 1, MOST_SIDE)
    max_size: int | None = setting(None, "longest image side in px, after resizing", 1, MOST_SIDE)
    augment: str = setting("flip", "strength of augmentation", choices=("none", "flip", "light", "strong"))
    workers: int = setting(
        0, "processes that load images as they are needed; 0 keeps all of them in memory", 0, MOST_WORKERS
    )
    # optimisation
    epochs: int = setting(12, "passes over the training images", 1, MOST_EPOCHS)
    batch_size: int = setting(16, "images a step", 1, MOST_BATCH)
    optimizer: str = setting("adamw", "adamw, or sgd with momentum 0.9", choices=("adamw", "sgd"))
    lr: float = setting(1e-3, "peak learning rate", 1e-12)
    backbone_lr: float = setting(1.0, "learning rate of the backbone as a multiple of lr", 0)
    weight_decay: float = setting(0.05, "weight decay; none on norms and biases", 0)
    schedule: str = setting("cosine", "cosine to 0, or step: a tenth after 2/3 and 8/9", choices=("cosine", "step"))
    warmup: int = setting(100, "steps of linear warm-up from lr / 1000", 0, MANY)
    clip: float = setting(10.0, "largest norm of the gradient; 0 does not clip", 0)
    ema: float = setting(
        0.998, "decay of the weights' moving average that is evaluated and saved; 0 for none", 0, 0.999999
    )
    # housekeeping
    eval_every: int = setting(0, "evaluate after each so many epochs; 0 only at the end", 0, MANY)
    seed: int = setting(0, "seed of weights, order and augmentation", 0, 2**32 - 1)
    device: str = setting("auto", "cpu, cuda or auto")

    def __post_init__(self) -> None:
        for f in fields(self):
            name, value, low, high = f.name, getattr(self, f.name), f.metadata["low"], f.metadata["high"]
            if low is not None and value is not None and not low <= value <= high:
                span = f"of at least {low}, and finite" if high == LARGEST else f"from {low} to {high}"
                raise InputError(f"{name} is {value}; it must be a number {span}")
            choices = f.metadata["choices"]
            if choices and value not in choices:
                raise InputError(f"{name} {value!r} is none of {', '.join(choices)}")
        if self.max_size is not None and (self.size is None or self.max_size < self.size):
            raise InputError(
                f"max_size is {self.max_size}, size is {self.size}; max_size bounds a given size from above"
            )
