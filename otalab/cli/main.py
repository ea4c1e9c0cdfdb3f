"""The command line; `otalab COMMAND --help` explains each command."""

import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pkgutil import resolve_name

from otalab.cli.flags import TRACEBACK, parser
from otalab.errors import InputError, first_line, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status. Help, version and a wrong flag raise SystemExit, as usual in argparse.

    0: success. 1: a check failed. 2: the input is at fault, or needs more memory than there is. 3: otalab itself is at
    fault. 130: interrupted. 141: the reader of the output went away. Whatever else the exception, one line on stderr
    says what went wrong.
    """
    limit_openmp_spin()
    try:
        if hasattr(sys.stdout, "reconfigure"):  # escape what the terminal cannot show, and do not fail
            sys.stdout.reconfigure(errors="backslashreplace")
        arguments = parser().parse_args(argv)
        status = resolve_name(f"otalab.cli.{arguments.run}")(arguments) or 0
        flush_output()
        return status
    except KeyboardInterrupt:
        print("\notalab: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        with suppress(OSError):
            flush_output()
        return status_of(error)


def limit_openmp_spin() -> None:
    """Shorten how long OpenMP's threads spin at a barrier, unless the user has set it. Call before importing torch.

    GNU OpenMP, which torch ships on Linux, spins 300,000 times. Beside a busy process, the spinning takes the core
    that the awaited thread needs. Fewer spins make a training step faster there, and a little slower on free cores.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"


def status_of(error: Exception) -> int:
    """Report an exception in one line on stderr and return the exit status, see `main`."""
    if isinstance(error, BrokenPipeError):  # `otalab ... | head`: the reader has what it wanted, so nothing is said
        return 141
    if out_of_memory(error):
        return tell(f"out of memory ({first_line(error)}); try a smaller --batch-size, --size, image or problem")
    if isinstance(error, InputError | OSError):
        return tell(error)
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    hint = f"set {TRACEBACK}=1 to see where"
    print(f"otalab: internal error: {type(error).__name__}: {first_line(error)}; {hint}", file=sys.stderr)
    return 3


def tell(fault: object) -> int:
    """Report in one line on stderr that the input is at fault, and return the exit status 2."""
    print(f"otalab: error: {one_line(fault)}", file=sys.stderr)
    return 2


def out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy or torch ran out of memory; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, RuntimeError):
        return bool(re.search("not enough memory|can't allocate memory|out of memory", str(error)))
    return isinstance(error, MemoryError)


def flush_output() -> None:
    """Flush stdout. On failure, drop what is buffered, since the flush at exit would fail too, and raise OSError."""
    try:
        if sys.stdout is not None:  # None if the caller closed it
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
