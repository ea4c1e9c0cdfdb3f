"""What a training run is made of; the flags of `otalab train` are made from these fields."""

import sys
from dataclasses import dataclass, field, fields

from otalab.errors import InputError

MOST_EPOCHS, MOST_BATCH, MOST_WORKERS, MOST_SIDE = 10**6, 2**16, 256, 2**14
LARGEST = sys.float_info.max
RANGES = {  # what is made from these numbers is bounded before it is made
    "background": (0, 10**9),
    "max_images": (1, 10**9),
    "size": (1, MOST_SIDE),
    "max_size": (1, MOST_SIDE),
    "workers": (0, MOST_WORKERS),
    "epochs": (1, MOST_EPOCHS),
    "batch_size": (1, MOST_BATCH),
    "backbone_lr": (0, LARGEST),
    "weight_decay": (0, LARGEST),
    "warmup": (0, 10**9),
    "clip": (0, LARGEST),
    "eval_every": (0, 10**9),
    "seed": (0, 2**32 - 1),
}


def span(low: int, high: int | float) -> str:
    """A range in words."""
    return f"of at least {low}, and finite" if high == LARGEST else f"from {low} to {high}"


def setting(default, help: str, choices: tuple[str, ...] | None = None):
    """A dataclass field that knows its help text and its choices."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """A training run, reproducible from these values alone (same machine, same number of threads).

    `otalab train --help` says what each is.
    """

    data: str = setting("data/shapes", "folder with train and val splits in COCO format")
    out: str = setting("runs/train", "folder for checkpoints, log and results")
    # model
    backbone: str = setting("tiny", "feature extractor", ("tiny", "mobilenet_v2", "resnet18", "resnet50"))
    weights_backbone: str | None = setting(None, "torchvision's weights entry for the backbone, e.g. DEFAULT")
    assigner: str = setting("ota", "label assignment: ota, fcos, atss, simota, ... or with options, ota:q=10")
    # data
    categories: tuple[str, ...] | None = setting(None, "train on these category names only")
    max_images: int | None = setting(None, "use at most so many training images, chosen by the seed")
    background: int = setting(0, "how many training images without a box take part, chosen by the seed")
    size: int | None = setting(None, "shorter image side in px; none keeps the images' size")
    max_size: int | None = setting(None, "longest image side in px, after resizing")
    augment: str = setting("flip", "strength of augmentation", ("none", "flip", "light", "strong"))
    workers: int = setting(0, "processes that load images as they are needed; 0 keeps all of them in memory")
    # optimisation
    epochs: int = setting(12, "passes over the training images")
    batch_size: int = setting(16, "images a step")
    optimizer: str = setting("adamw", "adamw, or sgd with momentum 0.9", ("adamw", "sgd"))
    lr: float = setting(1e-3, "peak learning rate")
    backbone_lr: float = setting(1.0, "learning rate of the backbone as a multiple of lr")
    weight_decay: float = setting(0.05, "weight decay; none on norms and biases")
    schedule: str = setting("cosine", "cosine to 0, or step: a tenth after 2/3 and 8/9", ("cosine", "step"))
    warmup: int = setting(100, "steps of linear warm-up from lr / 1000")
    clip: float = setting(10.0, "largest norm of the gradient; 0 does not clip")
    ema: float = setting(0.998, "decay of the weights' moving average that is evaluated and saved; 0 for none")
    # housekeeping
    eval_every: int = setting(0, "evaluate after each so many epochs; 0 only at the end")
    seed: int = setting(0, "seed of weights, order and augmentation")
    device: str = setting("auto", "cpu, cuda or auto")

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}; it must be a number {span(low, high)}")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"lr is {self.lr}; it must be a positive number")
        if self.max_size is not None and (self.size is None or self.max_size < self.size):
            raise InputError(
                f"max_size is {self.max_size}, size is {self.size}; max_size bounds a given size from above"
            )
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}; a decay lies in [0, 1)")
        for f in fields(self):
            choices = f.metadata["choices"]
            if choices and getattr(self, f.name) not in choices:
                raise InputError(f"{f.name} {getattr(self, f.name)!r} is none of {', '.join(choices)}")
