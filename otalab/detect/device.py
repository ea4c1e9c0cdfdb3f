"""Where a detector runs, and its batches with it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from otalab.errors import InputError


def to_device(images: list, targets: list[dict], device: torch.device) -> tuple[list, list[dict]]:
    """A batch on the device of the model; copies from pinned memory are asynchronous."""

    def moved(value):
        return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value

    return [moved(image) for image in images], [{k: moved(v) for k, v in target.items()} for target in targets]


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else the CPU (assignment needs float64: not MPS)."""
    there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name == "auto":
        name = "cuda" if len(there) > 1 else "cpu"
    if name not in there and not (name == "cuda" and len(there) > 1):
        raise InputError(f"device {name!r} is not here; there is {', '.join(there)}")
    return torch.device(name)


def full_precision(device: torch.device) -> AbstractContextManager:
    """Without autocast within; where there is none this does nothing, so that exported programs have no trace of it."""
    known = torch.amp.is_autocast_available(device.type)
    enabled = known and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()
