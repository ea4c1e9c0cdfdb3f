"""The training loop: read it from top to bottom."""

import copy
import logging
import math
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from otalab.data.coco import CocoDataset, collate
from otalab.data.transforms import train_transforms
from otalab.detect.checkpoint import save_model, save_state
from otalab.detect.config import TrainConfig
from otalab.detect.detector import build_detector
from otalab.detect.device import pick_device, to_device
from otalab.detect.evaluate import evaluate, open_split
from otalab.detect.limits import evaluation_batch, require_steps_fit
from otalab.detect.optim import build_optimizer, lr_factor, update_ema
from otalab.detect.run_folder import require_free, run_state, start, write_line, write_text
from otalab.errors import InputError, first_line, one_line
from otalab.files import write_json
from otalab.progress import progress_bar

logger = logging.getLogger(__name__)


def train(config: TrainConfig, resume: bool = False, progress: bool = True) -> dict[str, float]:
    """Train a detector and evaluate it; returns the final metrics.

    First says what it will see, and what is left out and why: printed with `progress`, and kept as data.txt. Writes
    into `config.out` also config.json, log.jsonl (a line for every step and every evaluation), checkpoint.pt after each
    epoch, model.safetensors and metrics.json. With `resume` the run goes on after its last whole epoch and ends with
    the weights of a run that was never stopped. Another `device` rounds otherwise, and other `workers` augment
    otherwise.

    Raises InputError for input at fault, before anything is written; for a loader process that was killed; and when the
    loss or its gradient is not finite, naming step (from 1, as in the log) and images. The last checkpoint stays then.
    """
    out = Path(config.out)
    device = pick_device(config.device)
    trainset, valset = open_data(config, device)
    torch.manual_seed(config.seed)
    settings = {
        "backbone": config.backbone,
        "num_classes": len(trainset.class_names),
        "assigner": config.assigner,
        "weights_backbone": config.weights_backbone,
        "image_size": image_size(config),
    }
    model = build_detector(**settings).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(model).requires_grad_(False) if config.ema else model
    optimizer = build_optimizer(model, config)
    peaks = [group["lr"] for group in optimizer.param_groups]
    require_free(out, resume)
    lines = opening(config, trainset, valset, device)
    if progress:
        print(*lines, sep="\n", flush=True)
    if config.workers == 0:
        trainset.keep_in_memory()
        valset.keep_in_memory()
    first_epoch = start(out, config, model, average, optimizer)
    write_text(out / "data.txt", lines)
    steps_an_epoch = len(trainset) // config.batch_size or 1
    total = config.epochs * steps_an_epoch
    eval_batch = evaluation_batch(valset.sizes, model.image_size, config.batch_size)
    log, metrics = out / "log.jsonl", {}
    bar = progress_bar(
        total=total, initial=first_epoch * steps_an_epoch, unit="step", disable=not progress, smoothing=0.05
    )
    with loader_faults_told(config.workers), bar:
        for epoch in range(first_epoch, config.epochs):
            model.train()
            step = epoch * steps_an_epoch
            began = time.perf_counter()
            for images, targets in batches(trainset, config, epoch):
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
                metrics = evaluate(average, valset, eval_batch, progress=False)
                write_line(log, {"step": step, "epoch": epoch, "metrics": metrics})
                if progress:
                    bar.write(f"epoch {epoch + 1}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}")
            save_state(out / "checkpoint.pt", run_state(config, epoch + 1, model, average, optimizer))
    if not metrics:  # resumed after its last epoch
        metrics = evaluate(average, valset, eval_batch, progress=False)
    names, ids = trainset.class_names, trainset.category_ids
    save_model(out / "model.safetensors", average, settings, names, ids, config.batch_size)
    write_json(out / "metrics.json", metrics)
    return metrics


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
        logger.warning("%s has no box to learn, the run sees background alone (%s)", trainset.annotations, boxes)
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


def batches(dataset: CocoDataset, config: TrainConfig, epoch: int) -> Iterable:
    """The batches of an epoch; order and augmentation depend on seed and epoch alone, so that a run can be resumed.

    An incomplete last batch is left out. Loader processes draw from generators of their own: another number of workers
    augments otherwise, in equal order.
    """
    seed = config.seed * 100_003 + epoch
    torch.manual_seed(seed)  # torchvision's transforms draw from the global generator
    return DataLoader(
        dataset,
        config.batch_size,
        shuffle=True,
        num_workers=config.workers,
        collate_fn=collate,
        drop_last=len(dataset) > config.batch_size,
        generator=torch.Generator().manual_seed(seed),
    )


@contextmanager
def loader_faults_told(workers: int) -> Iterator[None]:
    """Make one line of what loader processes raise; of a killed one torch tells wherever the run then is."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        killed = re.search(r"DataLoader worker .*(exited unexpectedly|killed by signal)", str(error))
        if not workers or not (killed or isinstance(error, OSError)):
            raise
        raise InputError(
            f"one of {workers} loader processes failed ({first_line(error).rstrip('. ')}); memory may have run out: go "
            "on from the last whole epoch (--resume) with fewer --workers, 0 for none"
        ) from error


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
