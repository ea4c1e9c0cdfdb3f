"""An assigner's options: read from text, and checked; what is wrong, and by which number."""

from collections.abc import Sequence
from inspect import signature

from otalab.errors import InputError, current

RENAMED = {"centre_radius": "center_radius", "pos_iou": "pos_iou_thr", "neg_iou": "neg_iou_thr"}  # since version 0.1
READERS = {int: int, float: float, str: str, bool: {"true": True, "false": False}.__getitem__, type(None): int}


def parse_options(text: str, defaults) -> dict[str, bool | int | float | str]:
    """Options in text, "q=10,solver=auction", each of the type that it has in `defaults`, an assigner.

    Raises InputError for text of another form, an unknown option, one that text cannot tell, and a value at fault.
    """
    kinds = {name: type(getattr(defaults, name)) for name in signature(type(defaults)).parameters}
    readers = {name: READERS[kind] for name, kind in kinds.items() if kind in READERS}
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} is not of the form option=value")
        name = current(name, RENAMED)
        if name not in readers:
            known = ", ".join(readers) or "none"
            raise InputError(f"{name!r} is no option that can be given as text; there is {known}")
        try:
            found[name] = readers[name](value)
        except (ValueError, KeyError) as error:
            raise InputError(f"{name} cannot be {value!r}") from error
    return found


def require_counts(**options: float | int) -> None:
    """Raise InputError unless each is a whole number of at least 1."""
    for name, value in options.items():
        if not (value >= 1 and float(value).is_integer()):
            raise InputError(f"{name} must be a whole number of at least 1, not {value}")


def require_positive(**options: float | int) -> None:
    """Raise InputError unless each is positive and finite."""
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise InputError(f"{name} must be positive and finite, not {value}")


def require_not_negative(**options: float | int) -> None:
    """Raise InputError unless each is finite and not negative."""
    for name, value in options.items():
        if not 0 <= value < float("inf"):
            raise InputError(f"{name} must be finite and not negative, not {value}")


def require_fractions(**options: float | int) -> None:
    """Raise InputError unless each is in 0..1."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name} must be in 0..1, not {value}")


def require_ranges(**options: Sequence[float | int]) -> None:
    """Raise InputError unless each is two positive numbers, the lower first."""
    for name, value in options.items():
        if len(value) != 2 or not 0 < value[0] <= value[1]:
            raise InputError(f"{name} must be two positive factors, the lower first, not {value}")
