"""The command line: `otalab COMMAND --help` explains each."""

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
    """Run a command; returns the exit status. Help, version and a wrong flag raise SystemExit, as argparse has it.

    0 all went well; 1 a check failed; 2 the input is at fault, or asks for more memory than there is; 3 otalab itself
    is; one line on stderr says how, whatever was raised. 130 interrupted; 141 the reader of the output went away.
    """
    limit_openmp_spin()
    try:
        if hasattr(sys.stdout, "reconfigure"):  # a name that the terminal cannot show is no fault
            sys.stdout.reconfigure(errors="backslashreplace")
        arguments = parser().parse_args(argv)
        status = resolve_name(f"otalab.cli.{arguments.run}")(arguments) or 0
        flush_output()
        return status
    except BrokenPipeError:  # `otalab ... | head`: the reader has what it wanted
        with suppress(OSError):
            flush_output()
        return 141
    except KeyboardInterrupt:
        print("\notalab: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        with suppress(OSError):
            flush_output()
        return status_of(error)


def limit_openmp_spin() -> None:
    """Shorten how long OpenMP's threads spin at a barrier, unless the user has set it; before torch is imported.

    GNU OpenMP, which torch brings on Linux, spins 300,000 times. Beside a busy process that wastes the core which the
    awaited thread needs. With fewer spins a training step there is faster, and on free cores a little slower.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"


def status_of(error: Exception) -> int:
    """Tell of an exception in one line; returns the exit status: 2 or 3, see `main`."""
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
    """Say in one line on stderr that the input is at fault; returns the exit status."""
    print(f"otalab: error: {one_line(fault)}", file=sys.stderr)
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
