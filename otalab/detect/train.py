"""The training loop: read it from top to bottom."""

import copy
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from otalab.data.coco import CocoDataset, collate
from otalab.data.transforms import train_transforms
from otalab.detect.checkpoint import load_state, restore, save_model, save_state
from otalab.detect.config import TrainConfig
from otalab.detect.detector import Detector, build_detector
from otalab.detect.evaluate import evaluate, open_split
from otalab.detect.optim import build_optimizer, lr_factor, update_ema
from otalab.errors import InputError
from otalab.files import sweep, to_json, write_json, write_whole
from otalab.progress import progress_bar


def train(config: TrainConfig, resume: bool = False, progress: bool = True) -> dict[str, float]:
    """Train a detector and evaluate it; returns the final metrics.

    Writes into `config.out`: config.json, log.jsonl (a line for every step and every evaluation), checkpoint.pt after
    each epoch, model.safetensors and metrics.json. With `resume` the run goes on after its last whole epoch and ends
    with the weights of a run that was never stopped. Raises InputError for input at fault, and when the loss or its
    gradient is not finite, naming step (from 1, as in the log) and images; the last checkpoint stays as it is.
    """
    out = Path(config.out)
    device = pick_device(config.device)
    trainset, valset = open_data(config)
    torch.manual_seed(config.seed)
    settings = model_settings(config, trainset)
    model = build_detector(**settings).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(model).requires_grad_(False) if config.ema else model
    optimizer = build_optimizer(model, config)
    peaks = [group["lr"] for group in optimizer.param_groups]
    first_epoch = start(out, config, resume, model, average, optimizer)
    steps_an_epoch = len(trainset) // config.batch_size or 1
    total = config.epochs * steps_an_epoch
    metrics: dict[str, float] = {}

    bar = progress_bar(
        total=total,
        initial=first_epoch * steps_an_epoch,
        unit="step",
        disable=not progress,
        smoothing=0.05,
    )
    with bar, (out / "log.jsonl").open("a", buffering=1) as log:
        for epoch in range(first_epoch, config.epochs):
            model.train()
            step = epoch * steps_an_epoch
            began = time.perf_counter()
            for images, targets in batches(trainset, config, epoch, steps_an_epoch):
                factor = lr_factor(step, total, config)
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
                images, targets = to_device(images, targets, device)
                with named_in_errors(step + 1, targets):
                    losses = model(images, targets)
                    loss = sum(losses.values())
                    require_finite_loss(loss, losses)
                    optimizer.zero_grad()
                    loss.backward()
                    clip_gradient(model, config.clip)
                optimizer.step()
                if config.ema:
                    update_ema(average, model, config.ema, step)
                step += 1
                line = {"step": step, "epoch": epoch, "lr": config.lr * factor, "loss": loss.item()}
                line |= {name: value.item() for name, value in losses.items()}
                write_line(log, line | {"seconds": time.perf_counter() - began})
                bar.update()
                bar.set_postfix(epoch=epoch + 1, loss=f"{line['loss']:.3f}", refresh=False)
            last = epoch + 1 == config.epochs
            if last or (config.eval_every and (epoch + 1) % config.eval_every == 0):
                metrics = evaluate(average, valset, config.batch_size, progress=False)
                write_line(log, {"step": step, "epoch": epoch, "metrics": metrics})
                if progress:
                    bar.write(f"epoch {epoch + 1}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}")
            save_state(out / "checkpoint.pt", run_state(config, epoch + 1, model, average, optimizer))
    if not metrics:  # resumed after its last epoch
        metrics = evaluate(average, valset, config.batch_size, progress=False)
    names, ids = trainset.class_names, trainset.category_ids
    save_model(out / "model.safetensors", average, settings, names, ids, config.batch_size)
    write_json(out / "metrics.json", metrics)
    return metrics


def open_data(config: TrainConfig) -> tuple[CocoDataset, CocoDataset]:
    """The training and validation splits of the run's folder, decoded once and for all unless workers decode them."""
    in_memory = config.workers == 0
    trainset = CocoDataset.from_folder(
        config.data,
        "train",
        transforms=train_transforms(config.size, config.augment, config.max_size),
        categories=list(config.categories) if config.categories else None,
        max_images=config.max_images,
        background=0,
        seed=config.seed,
        cache=in_memory,
    )
    return trainset, open_split(config.data, "val", trainset.class_names, cache=in_memory)


def model_settings(config: TrainConfig, trainset: CocoDataset) -> dict:
    """The arguments of `build_detector` for this run."""
    size = None if config.size is None else (config.size, config.max_size or 10 * config.size)
    return {
        "backbone": config.backbone,
        "num_classes": len(trainset.class_names),
        "assigner": config.assigner,
        "weights_backbone": config.weights_backbone,
        "image_size": size,
    }


def start(out: Path, config: TrainConfig, resume: bool, model, average, optimizer) -> int:
    """Prepare the run's folder, load its last state when resuming, and return the first epoch to run."""
    path = out / "checkpoint.pt"
    if not resume and (path.exists() or (out / "model.safetensors").exists()):
        raise InputError(f"{out} holds a run already; resume it (--resume) or choose another folder (--out)")
    sweep(out)  # a killed run may have left half a checkpoint
    if not path.exists():
        write_json(out / "config.json", asdict(config))
        (out / "log.jsonl").unlink(missing_ok=True)
        return 0
    state = load_state(path)
    stored, given = state["config"], kept_settings(config)
    different = {k: (stored.get(k), v) for k, v in given.items() if stored.get(k) != v}
    if different:
        name, (old, new) = next(iter(different.items()))
        raise InputError(f"{out} was started with {name}={old}, not {new}; a resumed run keeps its settings")
    if state["epoch"] > config.epochs:
        raise InputError(f"{path} is of epoch {state['epoch']}, but the run has {config.epochs}")
    restore(path, state, model, average, optimizer)
    drop_lines_after(out / "log.jsonl", state["epoch"])
    return state["epoch"]


def run_state(config: TrainConfig, epoch: int, model: Detector, average: Detector, optimizer) -> dict:
    """All that a run needs to go on after `epoch` epochs."""
    return {
        "config": kept_settings(config),
        "epoch": epoch,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def kept_settings(config: TrainConfig) -> dict:
    """The settings that a resumed run must share; its folder may have moved, and its device changed."""
    return {k: v for k, v in json.loads(json.dumps(asdict(config))).items() if k not in ("out", "device")}


def batches(dataset: CocoDataset, config: TrainConfig, epoch: int, steps: int) -> Iterator:
    """The batches of an epoch; order and augmentation depend on seed and epoch alone, so that a run can be resumed.

    Loader processes draw from generators of their own: another number of workers augments otherwise, in equal order.
    """
    seed = config.seed * 100_003 + epoch
    torch.manual_seed(seed)  # torchvision's transforms draw from the global generator
    loader = DataLoader(
        dataset,
        config.batch_size,
        shuffle=True,
        num_workers=config.workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
    )
    try:
        for _, batch in zip(range(steps), loader, strict=False):  # an incomplete last batch is left out
            yield batch
    except InputError as error:  # a loader process sends its traceback along; the message is the last line
        raise InputError(str(error).strip().splitlines()[-1].removeprefix("otalab.errors.InputError: ")) from error


@contextmanager
def named_in_errors(step: int, targets: list[dict]) -> Iterator[None]:
    """Make an InputError say at which step, and on which images, it arose."""
    try:
        yield
    except InputError as error:
        raise InputError(f"step {step}, image ids {[int(t['image_id']) for t in targets]}: {error}") from error


def require_finite_loss(loss: torch.Tensor, losses: dict[str, torch.Tensor]) -> None:
    """Raise InputError before a broken step reaches the weights."""
    if not loss.isfinite():
        parts = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        raise InputError(f"the loss is not finite ({parts}); try a lower --lr")


def clip_gradient(model: torch.nn.Module, limit: float) -> None:
    """Scale the gradient down to the norm `limit`, if not 0. Raises InputError when it is not finite."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf)
    if not norm.isfinite():
        raise InputError(f"the gradient is not finite (norm {norm.item():.3g}); try a lower --lr")


def to_device(images: list, targets: list[dict], device: torch.device) -> tuple[list, list[dict]]:
    """A batch on the device of the model."""
    moved = [{k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in t.items()} for t in targets]
    return [i.to(device) for i in images], moved


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else the CPU (assignment needs float64: not MPS)."""
    there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        name = "cuda" if len(there) > 1 else "cpu"
    if name not in there and not (name == "cuda" and len(there) > 1):
        raise InputError(f"device {name!r} is not here; there is {', '.join(there)}")
    return torch.device(name)


def write_line(log, line: dict) -> None:
    """Append one line to the run's log."""
    log.write(to_json(line) + "\n")


def drop_lines_after(path: Path, epoch: int) -> None:
    """Forget the log of epochs that will be run again."""
    kept = []
    with suppress(FileNotFoundError, ValueError):  # a killed run may have cut its last line short
        for line in path.read_text().splitlines():
            if json.loads(line)["epoch"] < epoch:
                kept.append(line)
    with write_whole(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept))
