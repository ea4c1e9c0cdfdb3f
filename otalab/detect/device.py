"""The device on which a detector runs, and how batches get there."""

from contextlib import AbstractContextManager, nullcontext

import torch

from otalab.errors import InputError


def to_device(images: list, targets: list[dict], device: torch.device) -> tuple[list, list[dict]]:
    """Move a batch to a device; copies from pinned memory are asynchronous."""

    def moved(value):
        return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value

    return [moved(image) for image in images], [{k: moved(v) for k, v in target.items()} for target in targets]


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA if available, else the CPU.

    MPS is never chosen, because assignment needs float64. Raises InputError for a device that is not available.
    """
    there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        name = "cuda" if len(there) > 1 else "cpu"
    if name not in there and not (name == "cuda" and len(there) > 1):
        raise InputError(f"device {name!r} is not here; there is {', '.join(there)}")
    return torch.device(name)


def full_precision(device: torch.device) -> AbstractContextManager:
    """A context without autocast. If autocast is off, it does nothing, so exported programs have no trace of it."""
    known = torch.amp.is_autocast_available(device.type)
    enabled = known and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()
