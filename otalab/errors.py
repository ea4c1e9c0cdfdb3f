"""InputError, the one exception for input that is at fault, and helpers for messages of one line."""

import reprlib
import warnings
from collections.abc import Mapping

_LONGEST = 600  # characters of a message; a longer one, such as one with a long value of a file, loses its middle


class InputError(ValueError):
    """Raised for input that the user can correct; the command line prints it as one line, without a traceback.

    The message is always a single line, however long or strange the names and values in it are.
    """

    def __init__(self, message: object) -> None:
        own = str(message).rpartition("otalab.errors.InputError: ")[2]  # after the traceback of a loader process
        super().__init__(one_line(own.strip(), _LONGEST))


def one_line(text: object, most: int | None = None) -> str:
    """The text on one line: line breaks, control characters and broken Unicode, which names may hold, become escapes.

    A text longer than `most` characters loses its middle.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return line if most is None or len(line) <= most else f"{line[: most // 2 - 2]}...{line[2 - most // 2 :]}"


def quoted(value: object) -> str:
    """The repr of a value from a file, on one line; a long value is shortened."""
    return _short.repr(value)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 3


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, shortened for a message, or its type's name if it has no text.

    The text of an exception from a loader process is a traceback: the function returns its last line, which names the
    exception and says what is wrong.
    """
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return one_line(lines[-1] if "in DataLoader worker process" in lines[0] else lines[0], _LONGEST)


def current(name: str, renamed: Mapping[str, str]) -> str:
    """The current name for one that may be old; `renamed` maps old names to current ones.

    An old name issues a DeprecationWarning.
    """
    if name not in renamed:
        return name
    warnings.warn(f"{name!r} is now called {renamed[name]!r}", DeprecationWarning, stacklevel=3)
    return renamed[name]
