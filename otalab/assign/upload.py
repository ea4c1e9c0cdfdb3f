"""Numbers of the host on the device of a computation."""

import torch
from torch import Tensor


def upload(values, device: torch.device) -> Tensor:  # a list of numbers, or of lists of numbers
    """The numbers on a device, without waiting for what it is doing: only pinned memory is copied in the background."""
    values = torch.tensor(values, device="cpu")
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
