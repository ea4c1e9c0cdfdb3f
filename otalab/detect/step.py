"""One step of training: forward pass, labels, losses, gradient and update; and the line about it in the log."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from otalab.assign import Assignment
from otalab.detect.detector import Detector
from otalab.detect.device import to_device
from otalab.detect.distributed import mean_over_processes, num_processes, parallel, without_averaging
from otalab.detect.losses import at_least_one, count_positives
from otalab.detect.run_folder import Run
from otalab.errors import InputError


class Learner:
    """Takes the training steps of a run. Each process has one learner.

    The images of a step may be taken in several parts (`config.accumulate`). Each part's losses are weighted by its
    positives, so that the gradient is that of one batch of all images. The exception is a batch norm that learns: it
    takes its statistics from one part alone. Gradients and losses are averaged over processes, and counts are summed.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run, self.device = run, device
        self.model = parallel(run.model, run.model.trains_quality)
        self.watch = Watch(run.model, device)

    def step(self, batches: Iterator, factor: float, stopping: bool) -> tuple[dict[str, float], bool]:
        """Update the weights once, with a learning rate of `factor` times its peak.

        `batches` yields the parts of the step. Returns the line for the log, and whether any process is `stopping`.
        If the loss or its gradient is not finite, raises an InputError that names the step and its images, and leaves
        the weights as they were.
        """
        run, watch = self.run, self.watch
        for group, peak in zip(run.optimizer.param_groups, run.peak_lrs, strict=True):
            group["lr"] = peak * factor
        run.optimizer.zero_grad()
        watch.reset()
        seen, sums, weight = [], Counter(), 0.0
        for part in range(run.config.accumulate):
            with watch.timing("data"):
                images, targets = to_device(*next(batches), self.device)
            seen += targets
            averaging = nullcontext() if part + 1 == run.config.accumulate else without_averaging(self.model)
            with named_in_errors(run.step + 1, seen), averaging:
                losses, positives = self.learn(images, targets)
            weight += positives
            for name, loss in losses.items():
                sums[name] += loss.detach() * at_least_one(positives)
        weight = at_least_one(weight)
        with named_in_errors(run.step + 1, seen), watch.timing("backward"):
            self.update(weight)
        return self.line({name: value / weight for name, value in sums.items()}, stopping)

    def learn(self, images: list[Tensor], targets: list[dict]) -> tuple[dict[str, Tensor], Tensor]:
        """Add the gradient of one part; return its losses and their weight: its positives, or 1 for a whole step."""
        run, watch, precision = self.run, self.watch, self.run.config.precision
        half = torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32")
        watch.found = []
        with watch.timing("forward"), half:
            losses = self.model(images, targets)
        loss = sum(losses.values())
        require_finite_loss(loss, losses)
        positives = torch.ones((), device=self.device)
        if run.config.accumulate > 1:
            positives = count_positives([a.balanced(run.model.balance) for a in watch.found])
            loss = loss * at_least_one(positives)
        with watch.timing("backward"):
            run.scaler.scale(loss).backward()
        return losses, positives

    def update(self, weight: Tensor) -> None:
        """Divide the gradient by the weight of all parts, clip it, and update the weights.

        Raises InputError if the gradient is not finite.
        """
        run = self.run
        run.scaler.unscale_(run.optimizer)
        if run.config.accumulate > 1:
            for parameter in run.model.parameters():
                if parameter.grad is not None:
                    parameter.grad /= weight
        norm = nn.utils.clip_grad_norm_(run.model.parameters(), run.config.clip or math.inf)
        scaling_down = run.scaler.is_enabled() and run.scaler.get_scale() > 1  # float16: the scaler skips such a step
        if not (norm.isfinite() or scaling_down):
            raise InputError(f"the gradient is not finite (norm {norm.item():.3g}); try a lower --lr")
        run.scaler.step(run.optimizer)
        run.scaler.update()

    def line(self, losses: dict[str, Tensor], stopping: bool) -> tuple[dict[str, float], bool]:
        """The line for the log, and whether any process is stopping.

        All numbers travel in one tensor: a single exchange between processes and a single copy from the device.
        """
        watch = self.watch
        per_gt = torch.cat(watch.counts)
        counted = (per_gt.sum(), (per_gt == 0).sum(), len(per_gt), stopping)
        values = [torch.as_tensor(v, dtype=torch.float64, device=self.device) for v in (*losses.values(), *counted)]
        *means, positives, empty, gts, stop = mean_over_processes(torch.stack(values)).tolist()
        line = {"loss": sum(means)} | dict(zip(losses, means, strict=True))
        totals = {"gts": gts, "positives": positives, "empty_gts": empty}
        line |= {name: round(value * num_processes()) for name, value in totals.items()}
        return line | watch.seconds_spent(), stop > 0


class Watch:
    """Measures how long each phase of a step takes, and counts the positives of each gt.

    It replaces the model's `assign` with `assign_and_count`, to count the labels where they are made.
    """

    def __init__(self, model: Detector, device: torch.device) -> None:
        self.assign, self.device = model.assign, device
        self.found: list[Assignment] = []  # of one forward pass, which may call `assign` once per image
        model.assign = self.assign_and_count
        self.reset()

    def reset(self) -> None:
        """Start a step with all times at 0."""
        self.seconds = dict.fromkeys(("data", "forward", "assign", "backward"), 0.0)
        self.counts: list[Tensor] = []  # positives of each gt, image by image

    @contextmanager
    def timing(self, phase: str) -> Iterator[None]:
        """Add the seconds of a block to a phase. A GPU works asynchronously, and only the host's time is measured."""
        began = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - began

    def assign_and_count(self, points, predictions, targets) -> list[Assignment]:
        """Call the model's own `assign`; time it and count its labels."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # else the rest of the forward pass would count as assignment
        with self.timing("assign"):
            found = self.assign(points, predictions, targets)
        self.found += found
        self.counts += [assignment.counts for assignment in found]
        return found

    def seconds_spent(self) -> dict[str, float]:
        """Seconds by phase, under their names in the log. The forward pass excludes the assignment inside it."""
        own = self.seconds | {"forward": self.seconds["forward"] - self.seconds["assign"]}
        return {f"{phase}_seconds": round(seconds, 6) for phase, seconds in own.items()}


@contextmanager
def named_in_errors(step: int, seen: list[dict]) -> Iterator[None]:
    """Put the step and the ids of the images `seen` before the message of an InputError raised in the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"step {step}, image ids {[int(t['image_id']) for t in seen]}: {error}") from error


def require_finite_loss(loss: Tensor, losses: dict[str, Tensor]) -> None:
    """Raise InputError if the loss is not finite, before it reaches the weights."""
    if not loss.isfinite():
        parts = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        raise InputError(f"the loss is not finite ({parts}); try a lower --lr")
