"""The settings of a training run. The flags of `otalab train` are made from these fields."""

import sys
from dataclasses import Field, dataclass, field, fields

from otalab.checks import require_known
from otalab.detect.recipes import RECIPES
from otalab.errors import InputError

MOST_EPOCHS, MOST_BATCH, MOST_WORKERS, MOST_SIDE = 10**6, 2**16, 256, 2**14
MANY = 10**9
BACKBONES = ("tiny", "mobilenet_v2", "resnet18", "resnet50", "resnet101", "resnext101_64x4d")
ANCHORS = ("points", "guided", "meta")
PRECISIONS = ("float32", "bfloat16", "float16")
MEMORY_FORMATS = ("auto", "channels_last", "contiguous")
LARGEST = sys.float_info.max
TORCHVISION_COCO = "torchvision-coco"  # as a checkpoint: torchvision's own weights, from its TORCH_HOME cache


def setting(default, help: str, low=None, high=LARGEST, choices: tuple[str, ...] | None = None, section: str = ""):
    """Make a dataclass field with its help text and its range or choices, which are checked before the value is used.

    section: the section of the help that begins with this field, if one does
    """
    known = {"help": help, "low": low, "high": high, "choices": choices, "section": section}
    return field(default=default, metadata=known)


def require_number(f: Field, number: object) -> None:
    """Raise InputError unless the number has the type of the setting (int or float) and lies within its range."""
    kind, low, high = int | float if f.type is float else int, f.metadata["low"], f.metadata["high"]
    if isinstance(number, bool) or not isinstance(number, kind):
        raise InputError(f"{f.name} is {number!r}; it must be a {'whole ' if kind is int else ''}number")
    if not low <= number <= high:
        span = f"of at least {low}, and finite" if high == LARGEST else f"from {low} to {high}"
        raise InputError(f"{f.name} is {number}; it must be a number {span}")


def is_foreign(source: object) -> bool:
    """Whether a checkpoint comes from elsewhere: torchvision's, by its name, or a .pth file."""
    return str(source) == TORCHVISION_COCO or str(source).endswith(".pth")


def implied(given: dict) -> dict:
    """Add the settings that others imply: resnet50 for weights from elsewhere, max-iou for a head with anchor boxes."""
    backbone = {"backbone": "resnet50"} if is_foreign(given.get("init")) else {}
    assigner = {"assigner": "max-iou"} if given.get("anchors", "points") != "points" else {}
    return backbone | assigner | given


def flag_words(name: str, value: object) -> list[str]:
    """Format a setting as words of a command line, such as --sizes 640 800 or --no-group."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, tuple | list) else (value,))]


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run. On the same machine, with the same number of threads, they reproduce it exactly.

    `otalab train --help` explains each field. `TrainConfig.from_recipe` starts from the settings of a recipe.
    """

    data: str = setting("data/shapes", "folder with train and val splits in COCO format")
    out: str = setting("runs/train", "folder for checkpoints, log and results")
    backbone: str = setting("tiny", "feature extractor", choices=BACKBONES, section="model")
    weights_backbone: str | None = setting(None, "torchvision's weights entry for the backbone, e.g. DEFAULT")
    init: str | None = setting(
        None,
        "detector to start from: a run's folder, torchvision-coco, or a .pth of torchvision's or the OTA authors'",
    )
    assigner: str = setting(
        "ota:k=5", "label assignment: ota, fcos, atss, simota, ... (docs/assigners.md), with options if needed: ota:k=5"
    )
    balance: float = setting(
        1.0, "what has equal weight in the loss of an image: 1 its objects; 0 its positives, as in the paper", 0, 1
    )
    quality: bool = setting(True, "an IoU branch, whose output is part of the score")
    anchors: str = setting(
        "points", "guided or meta: a head that makes its own anchor boxes, for max-iou", choices=ANCHORS
    )
    categories: tuple[str, ...] | None = setting(None, "train only on these categories", section="images")
    max_images: int | None = setting(None, "use at most this many training images, chosen by the seed", 1, MANY)
    background: int = setting(0, "use this many training images without a box, chosen by the seed", 0, MANY)
    size: int | None = setting(None, "shorter image side in px; without it, images keep their size", 1, MOST_SIDE)
    max_size: int | None = setting(None, "longest image side in px, after resizing", 1, MOST_SIDE)
    sizes: tuple[int, ...] | None = setting(
        None, "shorter sides in px, one of which training draws for each image; evaluation uses size", 1, MOST_SIDE
    )
    augment: str = setting("flip", "strength of augmentation", choices=("none", "flip", "light", "strong"))
    workers: int = setting(0, "processes that load images; 0 loads them once and keeps them in memory", 0, MOST_WORKERS)
    group: bool = setting(True, "put images of similar shape into a batch, so that they need little padding")
    epochs: int = setting(12, "passes over the training images", 1, MOST_EPOCHS, section="optimisation")
    steps: int | None = setting(None, "length of the run in steps, instead of epochs", 1, MANY)
    batch_size: int = setting(16, "images per step, over all processes", 1, MOST_BATCH)
    accumulate: int = setting(1, "gradient accumulation: split a step's images into this many parts", 1, MOST_BATCH)
    optimizer: str = setting("adamw", "adamw, or sgd with momentum 0.9", choices=("adamw", "sgd"))
    lr: float = setting(1e-3, "peak learning rate", 1e-12)
    lr_batch: int | None = setting(
        None, "the batch size that lr is meant for; another batch_size scales lr in proportion", 1, MOST_BATCH
    )
    backbone_lr: float = setting(1.0, "learning rate of the backbone as a multiple of lr", 0)
    weight_decay: float = setting(0.05, "weight decay; norms and biases have none", 0)
    schedule: str = setting(
        "cosine", "cosine to 0, or step: a tenth after 2/3 and 8/9 of the run", choices=("cosine", "step")
    )
    warmup: int = setting(100, "steps of linear warm-up from lr / 1000; at most the length of the run", 0, MANY)
    clip: float = setting(10.0, "clip the gradient to this norm; 0 does not clip", 0)
    ema: float = setting(
        0.998, "decay of the moving average of the weights, which is evaluated and saved; 0 for none", 0, 0.999999
    )
    device: str = setting("auto", "cpu, cuda or auto", section="machine")
    precision: str = setting("float32", "dtype of the network; losses are float32, labels float64", choices=PRECISIONS)
    memory_format: str = setting("auto", "layout of images in memory; auto suits the processor", choices=MEMORY_FORMATS)
    compile: bool = setting(False, "compile backbone and head with torch.compile")
    eval_every: int = setting(0, "evaluate every so many epochs; 0: only at the end", 0, MANY, section="housekeeping")
    checkpoint_every: int = setting(0, "save the state of the run every so many steps; 0: after each epoch", 0, MANY)
    tensorboard: bool = setting(False, "also write the log for TensorBoard")
    seed: int = setting(0, "seed of weights, order of images and augmentation", 0, 2**32 - 1)
    recipe: str | None = setting(
        None,
        "a set of settings (see `otalab recipes`); flags override it",
        choices=tuple(RECIPES),
        section="run",
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            value, choices = getattr(self, f.name), f.metadata["choices"]
            if value is None:
                continue
            if f.metadata["low"] is not None:
                for number in value if isinstance(value, tuple) else (value,):
                    require_number(f, number)
            if choices:
                require_known(choices, **{f.name: value})
        if self.anchors != "points" and self.assigner.partition(":")[0] != "max-iou":
            raise InputError(f"anchors {self.anchors} are for the assigner max-iou, and {self.assigner} compares none")
        largest = max((self.size or 0, *(self.sizes or ())))
        if self.max_size is not None and (self.size is None or self.max_size < largest):
            raise InputError(
                f"max_size is {self.max_size}, size is {largest or None}; max_size bounds a given size from above"
            )
        if self.sizes and self.size is None:
            raise InputError(f"sizes is {self.sizes}, but size, at which the run evaluates, is not given")

    @classmethod
    def from_recipe(cls, name: str, **changes) -> "TrainConfig":
        """Make the settings of a recipe, with changes. Raises InputError for an unknown name."""
        require_known(RECIPES, recipe=name)
        settings = RECIPES[name][1] | ({"steps": None} if changes.get("epochs") else {})
        return cls(**{"recipe": name, **settings, **implied(changes)})

    @property
    def longest(self) -> int | None:
        """Limit of the longer side after resizing, px: ten times `size` if `max_size` is not given."""
        return None if self.size is None else self.max_size or 10 * max(self.size, *(self.sizes or (0,)))

    @property
    def image_size(self) -> tuple[int, int] | None:
        """The (shorter side, limit of the longer side) to which evaluation resizes images, px."""
        return None if self.size is None else (self.size, self.longest)

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up, in proportion to the batch size if `lr_batch` is given."""
        return self.lr * self.batch_size / (self.lr_batch or self.batch_size)
