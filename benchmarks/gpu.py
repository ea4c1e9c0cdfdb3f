"""A GPU's table: labels beside the CPU's, steps beside torchvision's, waits of the host, the share of assignment.

python -m benchmarks.gpu [--quick] [--device cuda|cpu] [--rounds N] [--json FILE]

This takes under four minutes on a GPU. The file is rewritten after each table. A measurement that fails becomes a row
that says why. On a CPU the images are small, which shows only that the command works.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.common import FOLDER, as_json, shown
from benchmarks.device import (
    Failed,
    HostWaits,
    attempt,
    cuda_synchronisations,
    failed_last,
    finished,
    idle_share,
    name_of,
    peak_bytes,
)
from benchmarks.gpu_labels import labels_table
from benchmarks.training import OtalabStep, Setting, torchvision_step
from otalab.assign import build_assigner
from otalab.cli.flag_parts import at_most
from otalab.detect.device import pick_device
from otalab.errors import InputError
from otalab.files import write_json
from otalab.lab.timing import Table, TableRow, Timer, column, limit_threads, paired

SOLVERS = ("ota", "ota:solver=auction", "ota:solver=sinkhorn", "ota-paper", "ota-official", "fcos")
MODELS: dict[str, Callable[[Setting, torch.device], Callable[[], None]]] = {
    "otalab": OtalabStep,
    "torchvision": torchvision_step,
}


def settings_of(device: torch.device, quick: bool) -> list[Setting]:
    """Settings whose size suits a GPU, a CPU, or (with `quick`) a test."""
    if quick:
        return [Setting("tiny", (128, 128), batch, num_gt=3) for batch in (1, 2)]
    if device.type == "cpu":
        return [Setting(size=(256, 320), batch=batch) for batch in (1, 2)]
    return [Setting(batch=batch) for batch in (8, 16)]


@dataclass(frozen=True)
class Step(TableRow):
    """Images per second by the median step, the median of the paired ratios to torchvision, and peak memory in GB."""

    way: str = column("way", "<16")
    batch: int = column("batch", ">7")
    images_a_second: float = column("images/s", ">11", ".2f")
    times_torchvision: float | None = column("of torchvision", ">17", ".2f", "x")
    peak_gb: float | None = column("peak GB", ">10", ".2f")


def steps_table(device: torch.device, quick: bool, timer: Timer) -> Table:
    """Time both models in turn, at each batch size."""
    settings = settings_of(device, quick)
    rows = [row for setting in settings for row in step_rows(setting, device, timer)]
    return Table("step", f"{settings[0].images}, bfloat16 autocast, SGD", timer.rounds, failed_last(rows))


def step_rows(setting: Setting, device: torch.device, timer: Timer) -> list[Step | Failed]:
    """Measure the memory of each model by itself; then time in turn the models that did not fail."""
    names = {model: f"{model}, batch {setting.batch}" for model in MODELS}
    peaks = {model: attempt(names[model], partial(peak_alone, model, setting, device)) for model in MODELS}
    failed = [peak for peak in peaks.values() if isinstance(peak, Failed)]
    left = [model for model, peak in peaks.items() if not isinstance(peak, Failed)]
    together = ", ".join(names[model] for model in left)
    seconds = attempt(together, partial(in_turn, left, setting, device, timer))
    if isinstance(seconds, Failed):
        return [*failed, seconds]
    rows, beside = [], seconds.get("torchvision")
    for model, own in seconds.items():
        ratio = paired(beside, own) if beside else None
        memory = None if peaks[model] is None else peaks[model] / 1e9
        rows.append(Step(model, setting.batch, setting.batch / median(own), ratio, memory))
    return [*rows, *failed]


def peak_alone(model: str, setting: Setting, device: torch.device) -> int | None:
    """Peak bytes of a model's second step, when the optimiser has its state and no other model is in memory."""
    step = MODELS[model](setting, device)
    step()
    return peak_bytes(step, device)


def in_turn(models: list[str], setting: Setting, device: torch.device, timer: Timer) -> dict[str, list[float]]:
    """Seconds of a step of each model in each round."""
    return timer({model: finished(MODELS[model](setting, device), device) for model in models})


@dataclass(frozen=True)
class Waits(TableRow):
    """Where in a step the host waits for the device.

    operations  number of operations dispatched
    waits       number of operations at which the host has to wait, as found by `HostWaits`
    by_cuda     synchronisations that CUDA reports; None on a CPU
    percent     percentage of the step's time that the host spends in these waits, while the device still works
    idle        percentage of the step's time in which the device has nothing to do, because of waits or because the
                host is too slow; None on a CPU
    by_kind     the number of waits of each kind
    """

    way: str = column("step", "<26")
    operations: int = column("operations", ">12")
    waits: int = column("waits", ">7")
    by_cuda: int | None = column("by CUDA", ">9")
    percent: float = column("in them", ">10", ".1f", " %")
    idle: float | None = column("idle", ">9", ".1f", " %")
    by_kind: dict[str, int]

    @classmethod
    def head(cls) -> str:
        return f"{super().head()}  what"

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.by_kind.items())
        return f"{super().__str__()}  {kinds}"


def waits_table(device: torch.device, quick: bool, timer: Timer) -> Table:
    """One row for a step of each model, and one for otalab's step without assignment."""
    setting = settings_of(device, quick)[0]
    models = {"otalab": OtalabStep, "otalab, recorded labels": recorded_step, "torchvision": torchvision_step}
    rows = [attempt(name, partial(waits_row, name, build, setting, device)) for name, build in models.items()]
    return Table("host waits", f"one step, {setting}", 0, failed_last(rows))


def recorded_step(setting: Setting, device: torch.device) -> Callable[[], None]:
    """A step of otalab's detector with recorded labels, so that it assigns nothing."""
    step = OtalabStep(setting, device)
    labels = step.assign()
    step.assign = lambda: labels
    return step


def waits_row(name: str, build: Callable, setting: Setting, device: torch.device) -> Waits:
    """Count the waits in one step, and measure times in others."""
    step = build(setting, device)
    step()
    with HostWaits(device) as seen:
        finished(step, device)()
    seconds = median(Timer(3)({name: finished(step, device)})[name])
    kinds = dict(seen.waits.most_common())
    idle = idle_share(step, device)
    return Waits(
        way=name,
        operations=seen.operations,
        waits=sum(kinds.values()),
        by_cuda=cuda_synchronisations(step, device),
        percent=100 * seen.seconds / seconds,
        idle=None if idle is None else 100 * idle,
        by_kind=kinds,
    )


@dataclass(frozen=True)
class Share(TableRow):
    """Median seconds of a step with and without assignment and of assignment alone; the paired median of its share."""

    way: str = column("assigner", "<24")
    seconds: float = column("step s", ">10", ".4f")
    recorded_seconds: float = column("recorded s", ">12", ".4f")
    assign_seconds: float = column("assign s", ">10", ".4f")
    percent: float = column("share", ">9", ".1f", " %")


def share_table(device: torch.device, quick: bool, timer: Timer) -> Table:
    """One row for each assigner in SOLVERS (variants of `ota`, and `fcos`), all with the same model."""
    setting = settings_of(device, quick)[0]
    step = OtalabStep(setting, device)
    rows = [attempt(name, partial(share_row, name, step, device, timer)) for name in SOLVERS]
    return Table("assignment's share", f"of a step, {setting}", timer.rounds, failed_last(rows))


def share_row(name: str, step: OtalabStep, device: torch.device, timer: Timer) -> Share:
    """Time in turn the step with assignment, the step with recorded labels, and assignment alone."""
    assign = partial(step.batch.assigned, build_assigner(name))
    labels = assign()

    def with_labels(way: Callable) -> None:
        step.assign = way
        step()

    ways = {"step": partial(with_labels, assign), "recorded": partial(with_labels, lambda: labels), "assign": assign}
    seconds = timer({way: finished(run, device) for way, run in ways.items()})
    share = 1 - paired(seconds["recorded"], seconds["step"])
    return Share(name, *map(median, seconds.values()), 100 * share)


TABLES = {
    "labels": lambda device, quick, _: labels_table(device, quick),
    "step": steps_table,
    "host waits": waits_table,
    "assignment's share": share_table,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write table by table; returns 1 if a row failed for another reason than lack of memory."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    flags.add_argument("--quick", action="store_true", help="a tiny network, to see that the command works")
    flags.add_argument("--device", default="auto", help="cuda, cpu or auto (default: %(default)s)")
    flags.add_argument("--rounds", type=at_most(1000), default=5, help="interleaved rounds (default: %(default)s)")
    flags.add_argument("--json", type=Path, default=FOLDER / "gpu.json", help="(default: %(default)s)")
    given = flags.parse_args(argv)
    try:
        device = pick_device(given.device)
    except InputError as error:
        flags.error(str(error))
    command = f"python -m benchmarks.gpu --device {device.type} --rounds {given.rounds}{' --quick' * given.quick}"
    print(f"{name_of(device)}, PyTorch {torch.__version__}", end="\n\n", flush=True)
    done: list[Table] = []
    with limit_threads(1):
        for name, measure in TABLES.items():
            table = attempt(name, partial(measure, device, given.quick, Timer(given.rounds)))
            table = Table(name, "failed", 0, [table]) if isinstance(table, Failed) else table
            done.append(shown(table))
            cuda = torch.version.cuda if device.type == "cuda" else None
            about = {"device": name_of(device), "cuda": cuda}
            write_json(given.json, about | as_json(command, "wall", done))
    failed = [row for table in done for row in table.rows if isinstance(row, Failed)]
    return int(not all(row.for_want_of_memory for row in failed))


if __name__ == "__main__":
    sys.exit(main())
