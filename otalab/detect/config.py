"""What a training run is made of; the flags of `otalab train` are made from these fields."""

import sys
from dataclasses import Field, dataclass, field, fields

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
    """A dataclass field that knows its help text and its range or choices, which bound a value before its use.

    section: of the help, that begins with this field
    """
    known = {"help": help, "low": low, "high": high, "choices": choices, "section": section}
    return field(default=default, metadata=known)


def require_number(f: Field, number: object) -> None:
    """Raise InputError unless a number is of a setting's kind, whole or not, and within its range."""
    kind, low, high = int | float if f.type is float else int, f.metadata["low"], f.metadata["high"]
    if isinstance(number, bool) or not isinstance(number, kind):
        raise InputError(f"{f.name} is {number!r}; it must be a {'whole ' if kind is int else ''}number")
    if not low <= number <= high:
        span = f"of at least {low}, and finite" if high == LARGEST else f"from {low} to {high}"
        raise InputError(f"{f.name} is {number}; it must be a number {span}")


def is_foreign(source: object) -> bool:
    """Whether a checkpoint is not otalab's: torchvision's by name, or a .pth file."""
    return str(source) == TORCHVISION_COCO or str(source).endswith(".pth")


def implied(given: dict) -> dict:
    """Settings as given, with what they bring along: a ResNet-50 from elsewhere; max-iou, to compare anchors."""
    backbone = {"backbone": "resnet50"} if is_foreign(given.get("init")) else {}
    assigner = {"assigner": "max-iou"} if given.get("anchors", "points") != "points" else {}
    return backbone | assigner | given


def flag_words(name: str, value: object) -> list[str]:
    """A setting as the words of a command line: --sizes 640 800, --no-group."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, tuple | list) else (value,))]


@dataclass(frozen=True)
class TrainConfig:
    """A training run, reproducible from these values alone (same machine, same number of threads).

    `otalab train --help` says what each is. `TrainConfig.from_recipe` starts from settings that belong together.
    """

    data: str = setting("data/shapes", "folder with train and val splits in COCO format")
    out: str = setting("runs/train", "folder for checkpoints, log and results")
    backbone: str = setting("tiny", "feature extractor", choices=BACKBONES, section="model")
    weights_backbone: str | None = setting(None, "torchvision's weights entry for the backbone, e.g. DEFAULT")
    init: str | None = setting(
        None, "detector to start from: a run's folder, torchvision-coco, or a .pth of torchvision's or the OTA authors'"
    )
    assigner: str = setting(
        "ota:k=5", "label assignment: ota, fcos, atss, simota, ... (docs/assigners.md), or with options, ota:k=5"
    )
    balance: float = setting(
        1.0, "what counts alike in an image's losses: 1 its objects; 0 its positives, as in the paper", 0, 1
    )
    quality: bool = setting(True, "an IoU branch, whose score counts beside that of the class")
    anchors: str = setting(
        "points", "guided or meta: the detector has anchor boxes of its own, for max-iou", choices=ANCHORS
    )
    categories: tuple[str, ...] | None = setting(None, "train on these category names only", section="images")
    max_images: int | None = setting(None, "use at most so many training images, chosen by the seed", 1, MANY)
    background: int = setting(0, "how many training images without a box take part, chosen by the seed", 0, MANY)
    size: int | None = setting(None, "shorter image side in px; none keeps the images' size", 1, MOST_SIDE)
    max_size: int | None = setting(None, "longest image side in px, after resizing", 1, MOST_SIDE)
    sizes: tuple[int, ...] | None = setting(
        None, "shorter sides in px, drawn at random in training; size stays that of evaluation", 1, MOST_SIDE
    )
    augment: str = setting("flip", "strength of augmentation", choices=("none", "flip", "light", "strong"))
    workers: int = setting(
        0, "processes that load images as they are needed; 0 keeps all of them in memory", 0, MOST_WORKERS
    )
    group: bool = setting(True, "images of like shape share a batch, so that they pad each other little")
    epochs: int = setting(12, "passes over the training images", 1, MOST_EPOCHS, section="optimisation")
    steps: int | None = setting(None, "steps of the whole run, instead of epochs", 1, MANY)
    batch_size: int = setting(16, "images per step, of all processes together", 1, MOST_BATCH)
    accumulate: int = setting(1, "gradient accumulation: in how many parts a step's images are taken", 1, MOST_BATCH)
    optimizer: str = setting("adamw", "adamw, or sgd with momentum 0.9", choices=("adamw", "sgd"))
    lr: float = setting(1e-3, "peak learning rate", 1e-12)
    lr_batch: int | None = setting(
        None, "the batch size that lr is meant for: another batch_size scales it in proportion", 1, MOST_BATCH
    )
    backbone_lr: float = setting(1.0, "learning rate of the backbone as a multiple of lr", 0)
    weight_decay: float = setting(0.05, "weight decay; none on norms and biases", 0)
    schedule: str = setting("cosine", "cosine to 0, or step: a tenth after 2/3 and 8/9", choices=("cosine", "step"))
    warmup: int = setting(100, "steps of linear warm-up from lr / 1000, at most the run's", 0, MANY)
    clip: float = setting(10.0, "largest norm of the gradient; 0 does not clip", 0)
    ema: float = setting(
        0.998, "decay of the weights' moving average that is evaluated and saved; 0 for none", 0, 0.999999
    )
    device: str = setting("auto", "cpu, cuda or auto", section="machine")
    precision: str = setting("float32", "of the network; losses stay in float32, labels in float64", choices=PRECISIONS)
    memory_format: str = setting("auto", "layout of images; auto goes by the processor", choices=MEMORY_FORMATS)
    compile: bool = setting(False, "compile backbone and head by torch.compile")
    eval_every: int = setting(
        0, "evaluate after each so many epochs; 0 only at the end", 0, MANY, section="housekeeping"
    )
    checkpoint_every: int = setting(0, "save the run's state after each so many steps; 0 after each epoch", 0, MANY)
    tensorboard: bool = setting(False, "write the log for TensorBoard too")
    seed: int = setting(0, "seed of weights, order and augmentation", 0, 2**32 - 1)
    recipe: str | None = setting(
        None, "settings that belong together, see `otalab recipes`", choices=tuple(RECIPES), section="run"
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            value, choices = getattr(self, f.name), f.metadata["choices"]
            if value is None:
                continue
            if f.metadata["low"] is not None:
                for number in value if isinstance(value, tuple) else (value,):
                    require_number(f, number)
            if choices and value not in choices:
                raise InputError(f"{f.name} {value!r} is none of {', '.join(choices)}")
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
        """The settings of a recipe, with changes. Raises InputError for an unknown name."""
        if name not in RECIPES:
            raise InputError(f"recipe {name!r} is none of {', '.join(RECIPES)}")
        settings = RECIPES[name][1] | ({"steps": None} if changes.get("epochs") else {})
        return cls(**{"recipe": name, **settings, **implied(changes)})

    @property
    def longest(self) -> int | None:
        """The longest side in px, after resizing: ten times `size` where `max_size` is not given."""
        return None if self.size is None else self.max_size or 10 * max(self.size, *(self.sizes or (0,)))

    @property
    def image_size(self) -> tuple[int, int] | None:
        """The (shorter, longest) side in px that evaluation resizes images to."""
        return None if self.size is None else (self.size, self.longest)

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up, in proportion to the batch where `lr_batch` is given."""
        return self.lr * self.batch_size / (self.lr_batch or self.batch_size)
