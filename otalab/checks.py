"""Rules for the values of options, each in words, and InputError for a value that breaks one."""

from math import inf
from operator import index

from otalab.errors import InputError

RULES = {
    "be a whole number of at least 0": lambda value: index(value) >= 0,
    "be a whole number of at least 1": lambda value: index(value) >= 1,
    "be positive and finite": lambda value: 0 < value < inf,
    "be finite and not negative": lambda value: 0 <= value < inf,
    "not be negative": lambda value: value >= 0,
    "be finite and at least 1": lambda value: 1 <= value < inf,
    "be in 0..1": lambda value: 0 <= value <= 1,
    "be at least 0 and below 1": lambda value: 0 <= value < 1,
    "be above 0 and at most 1": lambda value: 0 < value <= 1,
    "be one or more positive numbers": lambda value: len(value) > 0 and all(0 < x < inf for x in value),
    "be two positive factors, the lower first": lambda value: len(value) == 2 and 0 < value[0] <= value[1],
    "be a positive (height, width)": lambda value: len(value) == 2 and all(0 < x < inf for x in value),
}


def require(rule: str, **options) -> None:
    """Raise InputError unless every option satisfies the rule, one of `RULES`."""
    for name, value in options.items():
        try:
            kept = RULES[rule](value)
        except TypeError:  # a text instead of a number, or one number instead of several
            kept = False
        if not kept:
            raise InputError(f"{name} must {rule}, not {value!r}")


def require_known(known, **options: str) -> None:
    """Raise InputError unless every option is one of the known words."""
    for name, value in options.items():
        if value not in known:
            raise InputError(f"{name} {value!r} is none of {', '.join(known)}")
