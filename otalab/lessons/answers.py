"""Answers as numbers: whatever a reader may have written, without raising."""

import torch
from torch import Tensor


def whole(value) -> int | None:
    """A whole number, or None if it is none; 3.0 is one."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def number(value) -> float | None:
    """One number, or None if it is none: a tensor or list of one will do, True will not."""
    found = None if isinstance(value, bool) else numbers(value)
    return found.item() if found is not None and found.numel() == 1 else None


def numbers(values) -> Tensor | None:
    """The values as float64, or None if they are no numbers."""
    try:
        values = torch.as_tensor(values, dtype=None if isinstance(values, Tensor) else torch.float64)
        return None if values.is_complex() else values.detach().cpu().double()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
