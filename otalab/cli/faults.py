"""What a command does with an exception: one line on stderr, and an exit status."""

import os
import re
import sys
import traceback

from otalab.errors import InputError, first_line, one_line

TRACEBACK = "OTALAB_TRACEBACK"
STATUSES = (
    "exit status: 0 done, 1 a check failed, 2 input at fault or more than memory holds, 3 a fault of otalab itself, "
    "130 interrupted, 141 the reader of the output went away"
)


def status_of(error: Exception) -> int:
    """Tell of an exception in one line; returns the exit status.

    2: input at fault, and memory that is not there, since the owner can ask for less.
    3: a fault of the program; the environment variable OTALAB_TRACEBACK adds the traceback.
    """
    if out_of_memory(error):
        return tell(f"out of memory ({first_line(error)}); try a smaller --batch-size, --size, image or problem")
    if isinstance(error, InputError | OSError):
        return tell(error)
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    line = one_line(first_line(error))
    hint = f"set {TRACEBACK}=1 to see where"
    print(f"otalab: internal error: {type(error).__name__}: {line}; {hint}", file=sys.stderr)
    return 3


def tell(fault: object) -> int:
    """Say in one line on stderr that the input is at fault; returns the exit status."""
    print(f"otalab: error: {one_line(str(fault))}", file=sys.stderr)
    return 2


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: Python's, NumPy's, or torch's, whose CPU allocator raises a plain RuntimeError."""
    if isinstance(error, RuntimeError):
        return bool(re.search("not enough memory|can't allocate memory|out of memory", str(error)))
    return isinstance(error, MemoryError)


def flush_output() -> None:
    """Write out what is buffered. Where that fails, drop it, since the flush at exit would fail too; raises OSError."""
    try:
        if sys.stdout is not None:  # it is None where the caller closed it
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
