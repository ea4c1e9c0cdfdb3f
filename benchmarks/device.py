"""Helpers for measurements on a GPU, harmless on a CPU: waiting for the device, host waits, memory, idle time."""

import gc
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import ClassVar, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common import cpu
from otalab.lab.timing import TableRow, column

CPU = torch.device("cpu")
T = TypeVar("T")


def name_of(device: torch.device) -> str:
    """The name of the GPU or the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu()


def finish(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def finished(call: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """The call followed by a wait for the device: a way for a `Timer`."""

    def run() -> None:
        call()
        finish(device)

    return run


@dataclass(frozen=True)
class Failed(TableRow):
    """A row that could not be measured, and why."""

    way: str = column("not measured", "", unit=": ")
    why: str = column("", "")

    @property
    def for_want_of_memory(self) -> bool:
        return self.why == "out of memory"


def attempt(way: str, measure: Callable[[], T]) -> T | Failed:
    """What `measure` returns, or a row that says what it raised, so that a failure costs only one row."""
    try:
        return measure()
    except torch.cuda.OutOfMemoryError:
        failed = Failed(way, "out of memory")
    except Exception as error:  # whatever a device, a driver or a library raises
        failed = Failed(way, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    gc.collect()  # the exception is gone here, and with it the tensors that its traceback held
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return failed


def failed_last(rows: list) -> list:
    """Move rows that could not be measured to the end, because the first row gives the table its head."""
    return sorted(rows, key=lambda row: isinstance(row, Failed))


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Peak memory of tensors during a call, in bytes; None on a CPU, where PyTorch does not count it."""
    if device.type != "cuda":
        call()
        return None
    finish(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    finish(device)
    return torch.cuda.max_memory_allocated(device)


class HostWaits(TorchDispatchMode):
    """Counts dispatched operations, and those at which the host has to wait for a GPU, with the seconds spent in these.

    By their names it finds operations that read a value, or that need a value to know the size of their result. It also
    finds copies between devices that were not asked to be `non_blocking`. On a CPU nothing is copied between devices,
    but the other operations count in the same way, so a CPU can stand in for a GPU.
    """

    NEED_VALUES: ClassVar[tuple[str, ...]] = (
        *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount"),
        *("_unique", "_unique2", "unique_dim", "unique_consecutive"),
    )

    def __init__(self, device: torch.device = CPU) -> None:
        super().__init__()
        self.device, self.operations, self.seconds = device, 0, 0.0
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        start = time.perf_counter()
        result = function(*args, **kwargs)
        self.operations += 1
        if kind := self.kind(function.name().removeprefix("aten::").partition(".")[0], args, kwargs, result):
            self.waits[kind] += 1
            self.seconds += time.perf_counter() - start
        return result

    def kind(self, name: str, args: tuple, kwargs: dict, result: object) -> str | None:
        """Why the operation makes the host wait; None if it does not."""
        if name in ("_to_copy", "copy_") and isinstance(result, Tensor):
            source = args[0] if name == "_to_copy" else args[1]
            asked = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            return None if asked or source.device.type == result.device.type else "copy between devices"
        if not (args and isinstance(args[0], Tensor) and args[0].device.type == self.device.type):
            return None  # no tensor on the device: nothing to wait for
        if name == "_local_scalar_dense":
            return "number read"
        if name in self.NEED_VALUES:
            return name.strip("_")
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            return "mask as index" if masks else None
        if name == "repeat_interleave" and kwargs.get("output_size") is None:
            return "repeat_interleave"
        return None


def cuda_synchronisations(call: Callable[[], object], device: torch.device) -> int | None:
    """Number of synchronising operations of a call that CUDA itself reports; None on a CPU."""
    if device.type != "cuda":
        return None
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True, action="always") as seen:
            call()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in seen)


def idle_share(call: Callable[[], object], device: torch.device) -> float | None:
    """The share of a call's time in which the GPU ran no kernel and copied nothing; None on a CPU."""
    if device.type != "cuda":
        return None
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        finished(call, device)()
        taken.append(time.perf_counter() - start)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        finished(call, device)()
    on_device = (e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA)
    spans = sorted((e.time_range.start, e.time_range.end) for e in on_device if not e.name.startswith("Optimizer."))
    return 1 - covered(spans) / 1e6 / median(taken)


def covered(spans: list[tuple[float, float]]) -> float:
    """The total length of the union of intervals, which must be sorted by their start."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
