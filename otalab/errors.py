"""The one exception that says: the input is at fault, and here is the number to mend; and messages of one line."""

import reprlib
import warnings
from collections.abc import Mapping

_LONGEST = 600  # letters of a message; one that quotes a long value of a file loses its middle


class InputError(ValueError):
    """Raised for input that its owner can mend; the command line prints it as one line, without a traceback.

    The message is one line however long or strange the names and values are that it holds.
    """

    def __init__(self, message: object) -> None:
        own = str(message).rpartition("otalab.errors.InputError: ")[2]  # a loader process sends its traceback along
        super().__init__(one_line(own.strip(), _LONGEST))


def one_line(text: object, most: int | None = None) -> str:
    """The text with line breaks, control characters and broken Unicode written as escapes: names may hold any.

    What is longer than `most` letters loses its middle.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return line if most is None or len(line) <= most else f"{line[: most // 2 - 2]}...{line[2 - most // 2 :]}"


def quoted(value: object) -> str:
    """A value out of a file as Python writes it, on one line; what is long is cut in the middle."""
    return _short.repr(value)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 3


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, for messages of one line; of a loader process's, the exception itself."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return one_line(lines[-1] if "in DataLoader worker process" in lines[0] else lines[0], _LONGEST)


def current(name: str, renamed: Mapping[str, str]) -> str:
    """The name of today for one that may be of the last version; an old one brings a DeprecationWarning."""
    if name not in renamed:
        return name
    warnings.warn(f"{name!r} is now called {renamed[name]!r}", DeprecationWarning, stacklevel=3)
    return renamed[name]
