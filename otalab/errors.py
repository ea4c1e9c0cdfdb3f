"""The one exception that says: the input is at fault, and here is the number to mend; and messages of one line."""

import warnings
from collections.abc import Mapping


class InputError(ValueError):
    """Raised for input that its owner can mend; the command line prints it as one line, without a traceback."""


def one_line(text: str) -> str:
    """The text with line breaks, control characters and broken Unicode written as escapes: names may hold any."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, for messages of one line; of a loader process's, the exception itself.

    A line that quotes a long value of a file loses its middle.
    """
    lines = (str(error).strip() or type(error).__name__).splitlines()
    line = lines[-1] if "in DataLoader worker process" in lines[0] else lines[0]
    return line if len(line) <= 600 else f"{line[:300]} ... {line[-300:]}"


def current(name: str, renamed: Mapping[str, str]) -> str:
    """The name of today for one that may be of the last version; an old one brings a DeprecationWarning."""
    if name not in renamed:
        return name
    warnings.warn(f"{name!r} is now called {renamed[name]!r}", DeprecationWarning, stacklevel=3)
    return renamed[name]
