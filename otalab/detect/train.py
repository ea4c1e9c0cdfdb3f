"""The training loop: read it from top to bottom."""

import copy
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from otalab.data.coco import CocoDataset, collate
from otalab.data.transforms import train_transforms
from otalab.detect.checkpoint import load_state, save_model, save_state
from otalab.detect.config import TrainConfig
from otalab.detect.detector import Detector, build_detector
from otalab.detect.evaluate import evaluate
from otalab.detect.optim import build_optimizer, lr_factor, update_ema
from otalab.errors import InputError
from otalab.files import write_whole


def train(config: TrainConfig, resume: bool = False, progress: bool = True) -> dict[str, float]:
    """Train a detector and evaluate it; returns the final metrics.

    Writes into `config.out`: config.json, log.jsonl (a line for every step and every evaluation), checkpoint.pt after
    each epoch, model.safetensors and metrics.json. With `resume` the run goes on after its last whole epoch and ends
    with the weights of a run that was never stopped. Raises InputError for input at fault, and when the loss is not
    finite, naming step and images.
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

    with (out / "log.jsonl").open("a", buffering=1) as log:
        bar = tqdm(
            total=total,
            initial=first_epoch * steps_an_epoch,
            unit="step",
            disable=not progress,
            smoothing=0.05,
            mininterval=0.2 if sys.stderr.isatty() else 30,  # a log file is no place for an animation
        )
        for epoch in range(first_epoch, config.epochs):
            model.train()
            step = epoch * steps_an_epoch
            began = time.perf_counter()
            for images, targets in batches(trainset, config, epoch, steps_an_epoch):
                factor = lr_factor(step, total, config)
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
                images, targets = to_device(images, targets, device)
                losses = model(images, targets)
                loss = sum(losses.values())
                require_finite_loss(loss, losses, step, targets)
                optimizer.zero_grad()
                loss.backward()
                if config.clip:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
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
                bar.write(f"epoch {epoch + 1}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}")
            save_state(out / "checkpoint.pt", run_state(config, epoch + 1, model, average, optimizer))
        bar.close()
    if not metrics:  # resumed after its last epoch
        metrics = evaluate(average, valset, config.batch_size, progress=False)
    save_model(out / "model.safetensors", average, settings, trainset.class_names, trainset.category_ids)
    write_json(out / "metrics.json", metrics)
    return metrics


def open_data(config: TrainConfig) -> tuple[CocoDataset, CocoDataset]:
    """The training and validation splits of the run's folder."""
    trainset = CocoDataset.from_folder(
        config.data,
        "train",
        transforms=train_transforms(config.size, config.augment, config.max_size),
        categories=list(config.categories) if config.categories else None,
        max_images=config.max_images,
        keep_empty=False,
        seed=config.seed,
        cache=True,
    )
    if len(trainset) == 0:
        raise InputError(f"{config.data}: no training image has a box of the chosen categories")
    valset = CocoDataset.from_folder(config.data, "val", categories=trainset.class_names, cache=True)
    return trainset, valset


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
    if path.exists() and not resume:
        raise InputError(f"{out} holds a run already; resume it (--resume) or choose another folder (--out)")
    if not path.exists():
        write_json(out / "config.json", asdict(config))
        (out / "log.jsonl").unlink(missing_ok=True)
        return 0
    state = load_state(path)
    stored, given = state["config"], json.loads(json.dumps(asdict(replace(config, device="auto"))))
    different = {k: (stored.get(k), v) for k, v in given.items() if stored.get(k) != v}
    if different:
        name, (old, new) = next(iter(different.items()))
        raise InputError(f"{out} was started with {name}={old}, not {new}; a resumed run keeps its settings")
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    drop_lines_after(out / "log.jsonl", state["epoch"])
    return state["epoch"]


def run_state(config: TrainConfig, epoch: int, model: Detector, average: Detector, optimizer) -> dict:
    """All that a run needs to go on after `epoch` epochs."""
    return {
        "config": json.loads(json.dumps(asdict(replace(config, device="auto")))),
        "epoch": epoch,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def batches(dataset: CocoDataset, config: TrainConfig, epoch: int, steps: int) -> Iterator:
    """The batches of an epoch; order and augmentation depend on seed and epoch alone, so that a run can be resumed."""
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
    for _, batch in zip(range(steps), loader, strict=False):  # an incomplete last batch is left out
        yield batch


def require_finite_loss(loss: torch.Tensor, losses: dict, step: int, targets: list[dict]) -> None:
    """Stop before a broken step reaches the weights, and name the batch."""
    if not loss.isfinite():
        parts = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        images = [int(t["image_id"]) for t in targets]
        raise InputError(f"the loss is not finite at step {step} ({parts}); image ids {images}; try a lower --lr")


def to_device(images: list, targets: list[dict], device: torch.device) -> tuple[list, list[dict]]:
    """A batch on the device of the model."""
    moved = [{k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in t.items()} for t in targets]
    return [i.to(device) for i in images], moved


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" prefers an accelerator."""
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise InputError(f"device {name!r} is not one that torch knows") from error
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def write_line(log, line: dict) -> None:
    """Append one line to the run's log."""
    log.write(json.dumps(line) + "\n")


def write_json(path: Path, value: dict) -> None:
    """Write a JSON file whole."""
    with write_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def drop_lines_after(path: Path, epoch: int) -> None:
    """Forget the log of epochs that will be run again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["epoch"] < epoch]
        with write_whole(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept))
