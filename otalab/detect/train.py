"""The training loop, written to be read from top to bottom.

`otalab train` runs it in one process, and `torchrun --nproc-per-node N -m otalab train` runs it in N processes. It uses
plain torch.distributed, which takes only a few short calls (`otalab.detect.distributed`). A training framework would
hide the loop that you are meant to read.
"""

import copy
import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch

from otalab.data.coco import CocoDataset
from otalab.data.transforms import train_transforms
from otalab.detect.batches import load_batches, steps_per_epoch
from otalab.detect.config import TrainConfig
from otalab.detect.detector import Detector, build_detector
from otalab.detect.device import pick_device
from otalab.detect.distributed import num_processes, process_group, rank
from otalab.detect.evaluate import open_split
from otalab.detect.init import start_from
from otalab.detect.layout import place
from otalab.detect.limits import evaluation_batch, require_steps_fit
from otalab.detect.optim import build_optimizer, lr_factor, update_ema
from otalab.detect.run_evaluation import RunEvaluator
from otalab.detect.run_folder import Run, RunLog, require_free, write_text
from otalab.detect.step import Learner
from otalab.errors import InputError, first_line, one_line
from otalab.files import sweep, write_json
from otalab.progress import progress_bar

logger = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    resume: bool = False,
    progress: bool = True,
    each_epoch: Callable[[int, Detector], None] | None = None,
) -> dict[str, float]:
    """Train a detector, evaluate it, and return the final metrics.

    resume:     continue after the last checkpoint. The run ends with the weights of a run that was never stopped, but
                rounds differently if it continues on another device or with another number of processes
    progress:   print a summary of the data, a progress bar, and the AP of each evaluation
    each_epoch: called after every full epoch with its number, from 0, and the detector that evaluation would use

    Files that the run writes into `config.out`:

    config.json, data.txt            the settings; what the run sees of the data, what it leaves out, and why
    log.jsonl                        a line for every step and every evaluation
    checkpoint.pt                    the latest state, to resume from
    detections.json, report.html     at every evaluation, and best.safetensors if its AP is the highest so far
    model.safetensors, metrics.json  at the end

    On SIGTERM the run finishes its step, saves its state, and raises SystemExit with status 143.

    Raises InputError for faulty input, where possible before anything is written, and for a killed loader process. A
    loss or gradient that is not finite raises an InputError, too, which names the step (from 1, as in the log) and its
    images. The last checkpoint stays in each case.
    """
    with process_group(pick_device(config.device)) as device, sigterm_noted() as stopping:
        progress = progress and rank() == 0
        trainset, valset = open_data(config, device)
        run, settings = build_run(config, trainset.class_names, device)
        each = steps_per_epoch(len(trainset), config.batch_size)
        total = config.steps or config.epochs * each
        require_free(run.out, resume)
        opening = account(config, trainset, valset, device)
        if progress:
            print(*opening, sep="\n", flush=True)
        if config.workers == 0:
            trainset.keep_in_memory()
            valset.keep_in_memory()
        run.load(total)
        log = open_folder(run, opening) if rank() == 0 else None
        description = {"settings": settings, "class_names": trainset.class_names, "category_ids": trainset.category_ids}
        evaluator = RunEvaluator(run, valset, log, description)
        learner = Learner(run, device)
        bar = progress_bar(total=total, initial=run.step, unit="step", disable=not progress, smoothing=0.05)
        tell = bar.write if progress else None
        with loader_faults_told(config.workers), bar:
            batches = iter(load_batches(trainset, config, run.step, total))
            for step in range(run.step, total):
                epoch = step // each
                # at the start of the next epoch, so that a run stopped before its evaluation makes up for it
                if step and config.eval_every and step % (config.eval_every * each) == 0:
                    evaluator.evaluate(epoch - 1, tell)
                torch.manual_seed(config.seed * 1_000_003 + step)  # a resumed run draws the same random numbers
                run.model.train()
                factor = lr_factor(step, total, config)
                line, stop = learner.step(batches, factor, stopping())
                if config.ema:
                    update_ema(run.ema_model, run.model, config.ema, step)
                run.step = step + 1
                if log:
                    log.write({"step": run.step, "epoch": epoch, "lr": config.peak_lr * factor, **line})
                if each_epoch and run.step % each == 0:
                    each_epoch(epoch, run.ema_model)
                bar.update()
                bar.set_postfix(epoch=epoch + 1, loss=f"{line['loss']:.3f}", refresh=False)
                if log and (stop or run.step == total or run.step % (config.checkpoint_every or each) == 0):
                    run.save()
                if stop:
                    logger.warning("stopped by SIGTERM after step %d of %d; go on with --resume", run.step, total)
                    raise SystemExit(128 + signal.SIGTERM)
            metrics = evaluator.evaluate((total - 1) // each, tell)
        evaluator.finish(metrics)
        return metrics


def open_data(config: TrainConfig, device: torch.device) -> tuple[CocoDataset, CocoDataset]:
    """Open the training and validation splits of the data folder `config.data`.

    Warns if no box is left to learn. Raises InputError for faulty input, for a batch that does not fit into memory, and
    for a validation image that is too large to evaluate.
    """
    size, longest = config.size, config.longest
    trainset = open_trainset(config, train_transforms(config.sizes or size, config.augment, longest))
    valset = open_split(config.data, "val", trainset.class_names)
    if trainset.count_usable(size, longest) == 0:
        boxes = trainset.account(size, longest)[1]
        logger.warning("%s has no box to learn, the run sees background alone (%s)", trainset.annotations, boxes)
    each = part_size(config, len(trainset))
    largest = (max(config.sizes), longest) if config.sizes else config.image_size
    require_steps_fit(trainset.sizes, largest, each, device)
    evaluation_batch(valset.sizes, config.image_size, 1)  # raises for an image that is too large
    return trainset, valset


def open_trainset(config: TrainConfig, transforms: Callable) -> CocoDataset:
    """Open the training split of the data folder, with the images and classes that the run learns."""
    return CocoDataset.from_folder(
        config.data,
        "train",
        transforms=transforms,
        categories=list(config.categories) if config.categories else None,
        max_images=config.max_images,
        background=config.background,
        seed=config.seed,
    )


def part_size(config: TrainConfig, num_images: int) -> int:
    """Number of images that a process takes through the network at once.

    Raises InputError if the images of a step cannot be split evenly over the processes and their `accumulate` parts.
    """
    batch = min(config.batch_size, num_images)
    each, odd = divmod(batch, num_processes() * config.accumulate)
    if odd:
        raise InputError(
            f"a batch of {batch} images cannot be shared equally by {num_processes()} processes that take theirs in "
            f"{config.accumulate} parts"
        )
    return each


def build_run(config: TrainConfig, class_names: list[str], device: torch.device) -> tuple[Run, dict]:
    """Build the detector, its moving average, optimiser and gradient scaler: a run before its first step.

    Also returns the arguments of `build_detector` that describe it, some of which `config.init` may determine. Raises
    InputError if steps are taken in several parts and the assigner has losses of its own.
    """
    torch.manual_seed(config.seed)
    settings = {
        "backbone": config.backbone,
        "num_classes": len(class_names),
        "assigner": config.assigner,
        "weights_backbone": config.weights_backbone,
        "image_size": config.image_size,
        "balance": config.balance,
        "quality": config.quality,
        "anchors": config.anchors,
    }
    if config.init:
        model, settings = start_from(config.init, settings, class_names)
    else:
        model = build_detector(**settings)
    if config.accumulate > 1 and model.assigner.own_losses:
        raise InputError(
            f"accumulate is {config.accumulate}, but {config.assigner} brings losses of its own, which do not add up "
            "from the parts of a batch; take it whole"
        )
    model = place(model, device, config.memory_format)
    ema_model = copy.deepcopy(model).requires_grad_(False) if config.ema else model
    if config.compile:
        model.backbone.compile()
        model.head.compile()
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
    return Run(config, model, ema_model, build_optimizer(model, config), scaler), settings


def account(config: TrainConfig, trainset: CocoDataset, valset: CocoDataset, device: torch.device) -> list[str]:
    """Describe in lines of text what the run sees, what is left out and why, and which machine it runs on."""
    images, *others = trainset.account(config.size, config.longest)
    if "without a box" in images.partition("left out: ")[2]:
        images += " (--background N takes N of those without)"
    machine = f"{torch.get_num_threads()} threads, {config.workers} loader processes"
    if num_processes() > 1:
        machine = f"{num_processes()} processes, each of {machine}"
    return [
        *(f"train  {one_line(line)}" for line in (images, *others)),
        f"val    {valset.summary()}",
        f"device {device}, {machine}, seed {config.seed}",
    ]


def open_folder(run: Run, opening: list[str]) -> RunLog:
    """Prepare the run's folder and open its log."""
    sweep(run.out)  # a killed run may have left a half-written checkpoint
    write_json(run.out / "config.json", asdict(run.config))
    log = RunLog(run.out, run.step, run.config.tensorboard)
    write_text(run.out / "data.txt", opening)
    return log


@contextmanager
def loader_faults_told(workers: int) -> Iterator[None]:
    """Turn the failure of a loader process (killed, or an OSError) into an InputError of one line.

    Wrap the whole loop in it: torch reports a killed loader process wherever the run happens to be at that moment.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        killed = re.search(r"DataLoader worker .*(exited unexpectedly|killed by signal)", str(error))
        if not workers or isinstance(error, BrokenPipeError) or not (killed or isinstance(error, OSError)):
            raise  # a broken pipe is a reader of the output that went away
        raise InputError(
            f"one of {workers} loader processes failed ({first_line(error).rstrip('. ')}); memory may have run out: go "
            "on from the last checkpoint (--resume) with fewer --workers, 0 for none"
        ) from error


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Only record SIGTERM, by which clusters end a job; yield a function that returns whether it came.

    Outside the main thread SIGTERM keeps its usual effect, and the function returns False.
    """
    came = []
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread alone
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
