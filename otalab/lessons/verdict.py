"""What a checker says about an answer, and how it reads one. Whatever a reader hands in gives a hint, not an error."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import isgenerator

import torch
from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right. The message says why it is, or gives a hint, which never tells the answer."""

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} {self.message}"


class Hint(Exception):
    """What to think of next. A check raises it, and the reader gets a Verdict that did not pass."""


def checker(check: Callable[..., str]) -> Callable[..., Verdict]:
    """Turn a check, which returns why an answer is right or raises Hint, into one that returns a Verdict."""

    @wraps(check)
    def verdict(*answers, **options) -> Verdict:
        try:
            return Verdict(True, check(*answers, **options))
        except Hint as hint:
            return Verdict(False, str(hint))

    return verdict


def hint_if(wrong: object, hint: str | None) -> None:
    """Raise the hint if `wrong` is true."""
    if wrong:
        raise Hint(hint)


def missing(*answers: object) -> bool:
    """Whether one of the answers is still None or `...`."""
    return any(answer is None or answer is ... for answer in answers)


def ask(function: Callable, name: str, *arguments) -> object:
    """Call a reader's function and return its result. Raises Hint if the function raises or returns a generator."""
    try:
        found = function(*arguments)
    except Hint:  # raised by what the function was handed, which knows better
        raise
    except Exception as error:  # whatever a reader's code may raise
        advice = " Is the model in evaluation mode?" if "in training" in str(error) else ""
        raise Hint(f"{name} raises {type(error).__name__}: {error}{advice}") from error
    hint_if(isgenerator(found), f"{name} gives a generator, which has computed nothing yet: return a list.")
    return found


def whole(value) -> int | None:
    """`value` as an int, or None if it is not a whole number; 3.0 is one."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def number(value) -> float | None:
    """`value` as a float, or None if it is not one number. A tensor or list with one number is; True is not."""
    found = None if isinstance(value, bool) else numbers(value)
    return found.item() if found is not None and found.numel() == 1 else None


def numbers(values) -> Tensor | None:
    """The values as a float64 tensor on the CPU, or None if they are not real numbers."""
    try:
        return torch.as_tensor(listed(values), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def listed(values) -> object:
    """A tensor or array, of any kind, as a list; all else as it is."""
    return values.tolist() if hasattr(values, "tolist") else values
