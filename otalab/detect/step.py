"""One step of training: forward, labels, losses, gradient and update; what it saw, and how long it took."""

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
    """Takes the steps of a run; one for a process.

    A step's images may come in parts (`config.accumulate`). Each part's losses are weighted by its positives, so that
    the gradient is that of one batch of all images; only a batch norm that learns, which looks at a whole batch, sees
    the part alone. Over several processes gradients and losses are averaged, and what is counted is summed.

    Raises InputError for parts with an assigner whose losses are its own.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        if run.config.accumulate > 1 and run.model.assigner.own_losses:
            raise InputError(
                f"accumulate is {run.config.accumulate}, but {run.config.assigner} brings losses of its own, which do "
                "not add up from the parts of a batch; take it whole"
            )
        self.run, self.device = run, device
        self.model = parallel(run.model, run.model.trains_quality)
        self.watch = Watch(run.model, device)

    def step(self, batches: Iterator, factor: float, stopping: bool) -> tuple[dict[str, float], bool]:
        """One update with the learning rate at `factor` of its peak; `batches` has the parts of the step.

        Returns the line for the log, and whether any process is `stopping`. Raises InputError that names the images
        when the loss or its gradient is not finite; the weights are left as they were.
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
        """Add the gradient of one part; returns its losses and their weight: its positives, 1 for a whole step."""
        run, watch, precision = self.run, self.watch, self.run.config.precision
        half = torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32")
        with watch.timing("forward"), half:
            losses = self.model(images, targets)
        loss = sum(losses.values())
        require_finite_loss(loss, losses)
        positives = torch.ones((), device=self.device)
        if run.config.accumulate > 1:
            positives = count_positives(watch.found)
            loss = loss * at_least_one(positives)
        with watch.timing("backward"):
            run.scaler.scale(loss).backward()
        return losses, positives

    def update(self, weight: Tensor) -> None:
        """Bring the gradient to that of the whole batch, clip it, and move the weights."""
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
        """What the log says of a step, fetched from the device and from the other processes at once."""
        watch = self.watch
        counted = (watch.positives, watch.empty_gts, watch.gts, stopping)
        values = [torch.as_tensor(v, dtype=torch.float64, device=self.device) for v in (*losses.values(), *counted)]
        *means, positives, empty, gts, stop = mean_over_processes(torch.stack(values)).tolist()
        line = {"loss": sum(means)} | dict(zip(losses, means, strict=True))
        totals = {"gts": gts, "positives": positives, "empty_gts": empty}
        line |= {name: round(value * num_processes()) for name, value in totals.items()}
        return line | watch.seconds_spent(), stop > 0


class Watch:
    """Looks at a detector while it learns: seconds of each phase of a step, and what becomes of its gts.

    The labels of a step are counted where they are made: the model's `assign` goes through here.
    """

    def __init__(self, model: Detector, device: torch.device) -> None:
        self.assign, self.device = model.assign, device
        model.assign = self.assign_and_count
        self.reset()

    def reset(self) -> None:
        """Begin a step."""
        self.seconds = dict.fromkeys(("data", "forward", "assign", "backward"), 0.0)
        self.gts, self.positives, self.empty_gts = 0, 0, 0

    @contextmanager
    def timing(self, phase: str) -> Iterator[None]:
        """Add the seconds of a block to a phase. A GPU works asynchronously: what counts is the time to launch it."""
        began = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - began

    def assign_and_count(self, points, predictions, targets) -> list[Assignment]:
        """The model's own assignment, timed and counted."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # what is left of the forward pass is not the assignment's
        with self.timing("assign"):
            self.found = self.assign(points, predictions, targets)
        per_gt = torch.cat([assignment.counts for assignment in self.found])
        self.gts += len(per_gt)
        self.positives = self.positives + per_gt.sum()
        self.empty_gts = self.empty_gts + (per_gt == 0).sum()
        return self.found

    def seconds_spent(self) -> dict[str, float]:
        """Seconds by phase, as the log names them: the forward pass without the assignment within it."""
        own = self.seconds | {"forward": self.seconds["forward"] - self.seconds["assign"]}
        return {f"{phase}_seconds": round(seconds, 6) for phase, seconds in own.items()}


@contextmanager
def named_in_errors(step: int, seen: list[dict]) -> Iterator[None]:
    """Make an InputError say at which step, and on which images, it arose."""
    try:
        yield
    except InputError as error:
        raise InputError(f"step {step}, image ids {[int(t['image_id']) for t in seen]}: {error}") from error


def require_finite_loss(loss: Tensor, losses: dict[str, Tensor]) -> None:
    """Raise InputError before a broken step reaches the weights."""
    if not loss.isfinite():
        parts = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        raise InputError(f"the loss is not finite ({parts}); try a lower --lr")
