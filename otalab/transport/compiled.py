"""numba, where it is installed: plain loops compiled, on the CPU."""

from collections.abc import Callable
from functools import cache
from inspect import unwrap

from otalab.errors import InputError


@cache
def installed() -> bool:
    """Whether numba is there, and agrees with the NumPy that is."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def use_numba(asked: bool | None) -> bool:
    """Whether to compile: as asked, or where numba is installed. Raises InputError if it is asked for and not there."""
    if asked and not installed():
        raise InputError("compiled=True needs numba: pip install 'otalab[fast]'")
    return installed() if asked is None else asked


@cache
def compiled(function: Callable) -> Callable:
    """The function compiled, once, to equal numbers; kept in numba's cache on disk if it may be."""
    from numba import njit

    options = {"fastmath": {"nnan", "nsz"}}  # costs are never NaN, which spares a minimum its tests for it
    function = unwrap(function)  # tests wrap functions to check their types
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that it may write into
        return njit(**options)(function)
