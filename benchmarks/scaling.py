"""What a 1x training of FCOS-R50 on COCO takes: what can be measured without a GPU, and what follows from it.

python -m benchmarks.scaling [--quick] [--data FOLDER] [--json FILE]

Operations and bytes are counted on tensors without memory. Seconds are CPU time on one thread. `--data` names a folder
in COCO format; its training photos are decoded to measure how fast a core is.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import FOLDER, as_json, shown
from benchmarks.device import CPU, HostWaits
from benchmarks.reckoning import BATCH, STEPS, Figure, others, paces
from benchmarks.training import OtalabStep, Setting, frozen_detector, make_batch
from otalab.assign import build_assigner
from otalab.assign.ota import EXACT_SOLVERS
from otalab.data.coco import CocoDataset
from otalab.data.transforms import train_transforms
from otalab.detect.losses import detection_losses
from otalab.errors import InputError
from otalab.files import write_json
from otalab.lab.timing import Table, TableRow, Timer, column, limit_threads

SOLVERS = ("augmenting-path", "auction", "sinkhorn")
SMALL = (128, 224)  # px; dispatches as many operations as a large image, in less time


def network_figures(setting: Setting) -> list[Figure]:
    """Arithmetic of one image, and sizes of weights, gradients and momentum.

    Only convolutions count; a multiplication and an addition count as two operations.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = frozen_detector(setting)
        _, predictions = model.predict([torch.rand(3, *setting.size)])
        forward = counter.get_total_flops()
        sum(p.logits.sum() + p.boxes.sum() + p.quality.sum() for p in predictions).backward()
        both = counter.get_total_flops()
    learning = [p for p in model.parameters() if p.requires_grad]
    weights, gradients = (sum(4 * p.numel() for p in some) / 1e6 for some in (model.parameters(), learning))
    return [
        Figure("forward", "arithmetic of an image, forward", forward / 1e9, "GFLOP"),
        Figure("flops", "arithmetic of an image, forward and backward", both / 1e9, "GFLOP"),
        Figure("weights", "weights, float32", weights, "MB"),
        Figure("gradients", "gradients of those that learn", gradients, "MB"),
        Figure("momentum", "SGD's momentum (AdamW: twice that)", gradients, "MB"),
    ]


def kept_figures(setting: Setting) -> list[Figure]:
    """Memory kept by the forward pass for the backward pass, as on a CUDA device."""
    rows = []
    for kind, amp in (("float32", False), ("bfloat16", True)):
        one, two = (kept_by_network(replace(setting, batch=batch), amp) for batch in (1, 2))
        what = "float32" if kind == "float32" else "under bfloat16 autocast"
        rows.append(Figure(f"kept {kind}", f"kept for the backward pass, an image, {what}", (two - one) / 1e6, "MB"))
        once = max(0, 2 * one - two) / 1e6
        rows.append(Figure(f"kept once {kind}", f"kept once, whatever the batch, {what}", once, "MB"))
    by_losses = kept_by_losses(replace(setting, batch=1)) / 1e6
    rows.append(Figure("kept by losses", "kept by the losses, an image, float32", by_losses, "MB"))
    return rows


def kept_by_network(setting: Setting, amp: bool) -> int:
    """Bytes of distinct tensors that autograd saves of the network, without weights and buffers.

    The device is a fake CUDA device, because autocast's rules depend on the device.
    """
    with FakeTensorMode(), torch.device("cuda"):
        model = frozen_detector(setting)
        images = [torch.rand(3, *setting.size) for _ in range(setting.batch)]
        with autocast_of_cuda(amp):
            return kept_bytes(lambda: model.predict(images), [*model.parameters(), *model.buffers()])


@contextmanager
def autocast_of_cuda(on: bool) -> Iterator[None]:
    """Autocast to bfloat16 by CUDA's rules; `torch.autocast` would refuse on a machine without CUDA."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", on)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def kept_by_losses(setting: Setting) -> int:
    """Bytes that autograd saves for the backward pass from the losses to the predictions."""
    batch = make_batch(setting, CPU)
    labels = batch.assigned(build_assigner("ota"))
    for p in batch.predictions:
        for values in (p.logits, p.boxes, p.quality):
            values.requires_grad_()
    return kept_bytes(lambda: detection_losses(batch.predictions, batch.truth, labels), [])


def kept_bytes(call: Callable[[], object], apart_from: Sequence[torch.Tensor]) -> int:
    """Bytes of the distinct storages that autograd saves in a call, except those of the tensors in `apart_from`."""
    seen: dict[int, torch.UntypedStorage] = {}  # keeps storages alive, so that no address is reused

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        result = call()
    known = {tensor.untyped_storage()._cdata for tensor in apart_from}
    del result
    return sum(storage.nbytes() for address, storage in seen.items() if address not in known)


@dataclass(frozen=True)
class Dispatched(TableRow):
    """Numbers of operations that the host dispatches, and of those at which it would wait for a GPU."""

    way: str = column("", "<40")
    images: int = column("images", ">8")
    operations: int = column("operations", ">12", ",")
    waits: int = column("host waits", ">12")


def dispatched_rows(setting: Setting, batches: Sequence[int]) -> list[Dispatched]:
    """Rows for a step and for its assignment by each solver. The size of the images does not matter."""
    rows = []
    for count in batches:
        step = OtalabStep(replace(setting, size=SMALL, batch=count), CPU)
        step()
        rows.append(dispatched("step", count, step))
        for solver in SOLVERS:
            assigner = build_assigner("ota", solver=solver)
            way = f"its assignment, {solver}"
            rows.append(dispatched(way, count, partial(step.batch.assigned, assigner)))
    return rows


def dispatched(way: str, images: int, call: Callable[[], object]) -> Dispatched:
    """Count the operations of a call on the CPU, which stands in for a GPU."""
    with HostWaits(CPU) as seen:
        call()
    return Dispatched(way, images, seen.operations, seen.waits.total())


def assignment_figures(setting: Setting) -> list[Figure]:
    """The part of assignment that always runs on the CPU, and the bytes that travel there and back."""
    batch, ota, arcs = make_batch(setting, CPU), build_assigner("ota"), []
    solver = EXACT_SOLVERS["augmenting-path"]
    with patch.dict(EXACT_SOLVERS, {"augmenting-path": lambda problem: arcs.append(problem) or solver(problem)}):
        batch.assigned(ota)
    (problem,) = arcs
    rows, wide = problem.cost.shape
    there, back = 8 * rows * (2 * wide + 1), 8 * (problem.num_columns + rows)
    batch_of = f"a batch of {setting.batch}, {rows} gts"
    whole, alone = (1e3 * cpu_seconds(call) for call in (partial(batch.assigned, ota), partial(solver, problem)))
    return [
        Figure("assign", f"assignment of {batch_of}, all on the CPU", whole, "ms"),
        Figure("solver", "of it the exact solver, which always runs there", alone, "ms"),
        Figure("there", "arcs to the host, in one transfer", there / 1e6, "MB"),
        Figure("back", "owners and prices back", back / 1e6, "MB"),
        Figure("batch", "a batch of images, float32", sum(i.nbytes for i in batch.images) / 1e6, "MB"),
    ]


def cpu_seconds(call: Callable[[], object], rounds: int = 5) -> float:
    """The median CPU time of a call, after one call that warms up."""
    (taken,) = Timer(rounds, clock=time.process_time)({"call": call}).values()
    return median(taken)


def loader_figures(folder: str, photos: int = 64) -> list[Figure]:
    """The time that one loader process takes for a photo."""
    data = CocoDataset.from_folder(folder, "train", max_images=photos)
    pixels = float(data.sizes[: len(data)].prod(axis=1).mean())
    decode, whole = (
        1e3 * cpu_seconds(lambda: [data[i] for i in range(len(data))], rounds=1) / len(data)
        for data.transforms in (None, train_transforms(800, "flip", 1333))
    )
    longest = data.sizes.max()
    return [
        Figure("photo pixels", f"pixels of a photo ({longest} px)", pixels, ""),
        Figure("decode", "a core reads and decodes a photo in", decode, "ms"),
        Figure("transform", "flip, and resize to 800 px (1333 at most), in", whole - decode, "ms"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, compute, print the tables and write them."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    flags.add_argument("--quick", action="store_true", help="a small network and image, to see that the command works")
    flags.add_argument("--data", help="folder in COCO format with a train split, for the loader's part")
    flags.add_argument("--json", type=Path, default=FOLDER / "scaling.json", help="(default: %(default)s)")
    given = flags.parse_args(argv)
    setting = Setting("resnet18", (256, 320), batch=16, num_gt=3) if given.quick else Setting(batch=16)
    with limit_threads(1):
        try:
            measured = [*network_figures(setting), *kept_figures(setting), *assignment_figures(setting)]
            measured += loader_figures(given.data) if given.data else []
            rows = dispatched_rows(setting, (2, 16))
        except InputError as error:
            flags.error(str(error))
    found = {figure.key: figure.value for figure in measured}
    found |= {f"operations {row.images}": row.operations for row in rows if row.way == "step"}
    tables = [
        Table("measured", setting.images, 0, measured),
        Table("measured", "what the host dispatches", 0, rows),
        Table("reckoned", f"{STEPS:,} steps of {BATCH} images, by the rate achieved", 0, paces(found)),
        Table("reckoned", "memory, host and data", 0, others(found)),
    ]
    for table in tables:
        shown(table)
    command = f"python -m benchmarks.scaling{' --quick' * given.quick}{' --data FOLDER' * bool(given.data)}"
    write_json(given.json, as_json(command, "cpu", tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
